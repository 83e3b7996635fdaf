"""Reads a chat completion request: strict about what it needs, lenient about the rest."""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mock_llm.asked import Choice, Format, Preferences, ToolSpec, no_endpoints, wants
from mock_llm.config import Upstream
from mock_llm.envelope import BadRequest
from mock_llm.plan import Call
from mock_llm.rng import request_key
from mock_llm.tokens import PRIMER_TOKENS, Counter, chat_tokens, counter
from mock_llm.wants import Wants
from mock_llm.wire import provider_name

Limit = Annotated[int, Meta(ge=1)]
Prefix = tuple[tuple[bytes, int], ...]
Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class Part(msgspec.Struct):
    """A part of a message's content; only text is read."""

    type: str = "text"
    text: str | None = None


class ChatMessage(msgspec.Struct, gc=False):
    """A message with its content as it came; one that calls tools needs none."""

    role: Role
    content: str | list[Part] | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()

    @property
    def text(self) -> str:
        """All its text, with that of its calls."""
        content = self.content
        if isinstance(content, str) and not self.tool_calls:
            return content
        calls = bytes(self.tool_calls).decode(errors="replace") if self.tool_calls else ""
        if isinstance(content, str):
            return content + calls
        return "".join(part.text or "" for part in content or ()) + calls


class StreamOptions(msgspec.Struct):
    """`stream_options`; only OpenAI heeds them."""

    include_usage: bool | None = None


class Chat(msgspec.Struct, gc=False):
    """The body of a request. Unknown keys are ignored, as OpenRouter does."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    model: str | None = None
    models: list[str] | None = None
    max_tokens: Limit | None = None
    max_completion_tokens: Limit | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    provider: Preferences | None = None
    response_format: Format | None = None
    tools: list[ToolSpec] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    user: str | None = None
    session_id: Annotated[str, Meta(max_length=256)] | None = None
    metadata: Annotated[dict[str, str], Meta(max_length=16)] | None = None


_decode = msgspec.json.Decoder(Chat).decode


def read_chat(body: bytes) -> Chat:
    """Decode a request body.

    Raises:
        BadRequest: not JSON, or not of the right shape; the text names the field.
    """
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise BadRequest("nested too deeply") from error


def prefixes(messages: Iterable[tuple[str, str]], count: Counter) -> Prefix:
    """Chained digest, and tokens, of every prefix of whole messages, shortest first.

    Args:
        messages: role and text of each.
        count: counts a text's tokens.
    """
    found: list[tuple[bytes, int]] = []
    digest, tokens = b"", 0
    for role, text in messages:
        link = f"{role}\0{text}".encode("utf-8", "surrogatepass")
        digest = blake2b(digest + link, digest_size=16).digest()
        tokens += chat_tokens((text,), count) - PRIMER_TOKENS
        found.append((digest, tokens))
    return tuple(found)


class Reader:
    """Turns requests into calls, for one upstream."""

    def __init__(self, upstream: Upstream) -> None:
        profiles = [model.profile or upstream.profile for model in upstream.models.values()]
        self._cached = any(profile.prompt_cache for profile in profiles)
        self._count = counter(upstream.token_counts)
        self._default_model = next(iter(upstream.models), "")
        self._offered = upstream.models
        # OpenAI knows its models without the author that OpenRouter puts before them.
        bare = upstream.dialect == "openai"
        self._known_as = {slug.rpartition("/")[2]: slug for slug in upstream.models if bare}

    def call(self, chat: Chat, *, key: str, account: str, new_connection: bool) -> Call:
        """Return what behaviour needs to know of a request.

        Args:
            chat: the decoded body.
            key: the client's `X-Request-Key`, "" when it sent none.
            account: its API key.
            new_connection: first request on its connection.

        Raises:
            BadRequest: what it asks for cannot be had.
        """
        said, text, texts = [], "", []
        for message in chat.messages:
            content = message.text
            said.append((message.role, content))
            texts.append(content)
            if message.role == "user":
                text = content
        tokens = chat_tokens(texts, self._count)
        if chat.tools:
            tokens += sum(map(self._tool_tokens, chat.tools))
        model, fallbacks = self.model(chat.model), []
        if chat.models or chat.provider:
            model, *fallbacks = self._candidates(chat, tokens)
        wanted, options = None, chat.stream_options
        if chat.stop is not None or chat.response_format is not None or chat.tools is not None:
            wanted = _wants(chat)
        return Call(
            key=key or request_key(text),
            model=model,
            fallbacks=tuple(fallbacks),
            account=account,
            prompt_tokens=tokens,
            prefix=prefixes(said, self._count) if self._cached else (),
            text=text,
            max_tokens=chat.max_completion_tokens or chat.max_tokens,
            stream=bool(chat.stream),
            include_usage=options is not None and bool(options.include_usage),
            wants=wanted,
            new_connection=new_connection,
        )

    def prefix(self, said: Callable[[], Iterable[tuple[str, str]]]) -> Prefix:
        """What a prompt cache can look up, from role and text of each message; see `Call`."""
        return prefixes(said(), self._count) if self._cached else ()

    def model(self, asked: str | None) -> str:
        """The model that is meant by a name."""
        return self._known_as.get(asked, asked) if asked else self._default_model

    def _tool_tokens(self, tool: ToolSpec) -> int:
        """Tokens of a tool's description, which is part of the prompt."""
        said = tool.function
        if said is None:
            return 0
        parameters = bytes(said.parameters).decode(errors="replace")
        return self._count(f"{said.name}{said.description or ''}{parameters}")

    def _candidates(self, chat: Chat, tokens: int) -> list[str]:
        """The models that may serve, best first; one that is not on offer if none is.

        Raises:
            NoEndpoints: the request excludes every provider.
        """
        named = [self.model(one) for one in (chat.model, *(chat.models or ())) if one]
        known = [
            one for one in dict.fromkeys(named or [self._default_model]) if one in self._offered
        ]
        if not known:
            return named[:1] or [self._default_model]
        admitted = known
        if chat.provider is not None:
            admitted = [one for one in known if self._admits(chat.provider, one)]
            if not admitted:
                raise no_endpoints(known[0])
        # A context that is too short is as good a reason to go on to the next model as a fault.
        able = [one for one in admitted if tokens <= self._offered[one].context_length]
        served = able or admitted[:1]
        alone = chat.provider is not None and chat.provider.allow_fallbacks is False
        return served[:1] if alone else served

    def _admits(self, preferences: Preferences, slug: str) -> bool:
        model = self._offered[slug]
        return preferences.admits(
            provider_name(slug), model.prompt_usd_per_m, model.completion_usd_per_m
        )


def _wants(chat: Chat) -> Wants:
    return wants(
        chat.response_format,
        chat.tools,
        chat.tool_choice,
        chat.stop,
        parallel=chat.parallel_tool_calls is True,
        from_user=chat.messages[-1].role == "user",
    )
