"""The keys of a request that ask for another kind of answer, and the routing between models."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mock_llm.envelope import BadRequest, NoEndpoints
from mock_llm.structured import Document, Unsatisfiable, document
from mock_llm.wants import Tool, Wants

_ANYTHING = b'{"type":"object"}'


class Spec(msgspec.Struct):
    """The schema of a `json_schema` answer."""

    name: str
    schema: msgspec.Raw = msgspec.Raw()


class Format(msgspec.Struct):
    """`response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Spec | None = None


class Function(msgspec.Struct):
    """A function that the model may call; its parameters stay undecoded until it has to."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()


class ToolSpec(msgspec.Struct):
    """One of `tools`; OpenRouter's own server tools have no function and are not imitated."""

    type: str = "function"
    function: Function | None = None


class Name(msgspec.Struct):
    """Which function is named."""

    name: str


class Named(msgspec.Struct):
    """A `tool_choice` that names the function."""

    function: Name


Choice = Literal["none", "auto", "required"] | Named


class MaxPrice(msgspec.Struct):
    """Dollars per million tokens."""

    prompt: float | str | None = None
    completion: float | str | None = None


class Preferences(msgspec.Struct):
    """`provider`: which providers may serve, and for how much."""

    only: list[str] | None = None
    ignore: list[str] | None = None
    order: list[str] | None = None
    allow_fallbacks: bool | None = None
    max_price: MaxPrice | None = None

    def admits(self, provider: str, prompt_usd: float, completion_usd: float) -> bool:
        """Whether a provider may serve at its prices, in dollars per million tokens.

        Raises:
            BadRequest: a greatest price is no number.
        """
        name = _plain(provider)
        alone = self.order if self.allow_fallbacks is False else None
        for allowed in (self.only, alone):
            if allowed and name not in map(_plain, allowed):
                return False
        if name in map(_plain, self.ignore or ()):
            return False
        most = self.max_price or MaxPrice()
        return prompt_usd <= _price(most.prompt) and completion_usd <= _price(most.completion)


def wants(
    form: Format | None,
    tools: list[ToolSpec] | None,
    choice: Choice | None,
    stop: str | list[str] | None,
    *,
    parallel: bool,
    from_user: bool,
) -> Wants:
    """Return what the answer has to look like.

    Tools are called in answer to a user, and only then: what follows the result of a tool, or an
    assistant's own words, is text. So every loop of an agent ends.

    Args:
        form: `response_format`.
        tools: those on offer.
        choice: `tool_choice`.
        stop: `stop`.
        parallel: `parallel_tool_calls` was asked for outright.
        from_user: the last message is a user's.

    Raises:
        BadRequest: a schema cannot be understood, or there is no tool of that name.
    """
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    return Wants(
        stop=tuple(one for one in stops if one),
        json=form is not None and form.type == "json_object",
        schema=_schema(form),
        tools=_callable(tools or (), choice) if from_user else (),
        parallel=parallel,
    )


def _schema(form: Format | None) -> Document | None:
    if form is None or form.type != "json_schema":
        return None
    if form.json_schema is None:
        raise BadRequest("`json_schema` is missing - at `$.response_format`")
    where = "$.response_format.json_schema.schema"
    return _document(bytes(form.json_schema.schema) or _ANYTHING, where)


def _callable(tools: "list[ToolSpec] | tuple[()]", choice: Choice | None) -> tuple[Tool, ...]:
    functions = [tool.function for tool in tools if tool.function is not None]
    if choice == "none":
        return ()
    if isinstance(choice, Named):
        name = choice.function.name
        functions = [one for one in functions if one.name == name]
        if not functions:
            raise BadRequest(f"there is no tool named {name!r} - at `$.tool_choice`")
    elif choice == "required" and not functions:
        raise BadRequest("a tool is required and none is given - at `$.tool_choice`")
    return tuple(
        Tool(one.name, _document(_parameters(one), f"the parameters of {one.name}"))
        for one in functions
    )


def _parameters(function: Function) -> bytes:
    raw = bytes(function.parameters)
    return _ANYTHING if raw in {b"", b"null"} else raw


def _document(raw: bytes, where: str) -> Document:
    try:
        return document(raw)
    except Unsatisfiable as error:
        raise BadRequest(f"{error} - at `{where}`") from error


def no_endpoints(slug: str) -> NoEndpoints:
    """Return the 404 for a model whose providers are all excluded."""
    return NoEndpoints(
        f"No endpoints found for {slug} that match the provider preferences of this request."
    )


def _plain(name: str) -> str:
    """A provider by its name or its slug: `xAI`, `x-ai`, `azure/eastus` for one in a region."""
    return name.partition("/")[0].casefold().replace("-", "").replace(" ", "")


def _price(limit: float | str | None) -> float:
    try:
        return float("inf") if limit is None else float(limit)
    except ValueError:
        raise BadRequest(f"{limit!r} is no price - at `$.provider.max_price`") from None
