"""What a provider's answer says: strict where money and labels hang on it, lenient elsewhere."""

import msgspec

from harness.corpus.review import Label


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The part of a completion that the pipeline uses.

    Attributes:
        text: the reply as it came.
        label: `positive` or `negative`; None when the reply does not say.
        prompt_tokens: as billed.
        cached_tokens: of these, at the cached price.
        completion_tokens: as billed.
        cost_usd: the provider's own figure, None when it gave none.
    """

    text: str
    label: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None


class BadAnswerError(Exception):
    """The provider's answer cannot be used; the argument is the record's error word."""

    def __init__(self, word: str, status: int | None = None) -> None:
        super().__init__(word)
        self.word = word
        self.status = status


class _Details(msgspec.Struct):
    cached_tokens: int | None = 0


class Usage(msgspec.Struct):
    """Token counts and cost of one completion."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    prompt_tokens_details: _Details | None = None


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class WireError(msgspec.Struct):
    """OpenRouter's error object; real ones carry a number or, rarely, a word as code."""

    message: str | None = ""
    code: int | str | None = 0


class Body(msgspec.Struct):
    """A completion, a chunk of one, or an error in a 200."""

    choices: list[_Choice] | None = None
    usage: Usage | None = None
    error: WireError | str | None = None


class _Reply(msgspec.Struct):
    label: Label


_BODY = msgspec.json.Decoder(Body)
_REPLY = msgspec.json.Decoder(_Reply)


def decode(data: bytes) -> Body:
    """A body, or a chunk of a stream.

    Raises:
        BadAnswerError: `empty_body`, `not_json`, or `upstream_error` for an error inside a 200.
    """
    if not data.strip():
        raise BadAnswerError("empty_body")
    try:
        body = _BODY.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadAnswerError("not_json") from error
    if body.error is not None:
        code = body.error.code if isinstance(body.error, WireError) else None
        raise BadAnswerError("upstream_error", code if isinstance(code, int) else None)
    return body


def answer(text: str, usage: Usage | None, finish_reason: str | None) -> Answer:
    """Judge a whole reply.

    Raises:
        BadAnswerError: `empty_content`, or `finish_error` for a reply broken off by its provider.
    """
    if finish_reason == "error":
        raise BadAnswerError("finish_error")
    if not text.strip():
        raise BadAnswerError("empty_content")
    usage = usage or Usage()
    details = usage.prompt_tokens_details or _Details()
    return Answer(
        text=text,
        label=label_of(text),
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=details.cached_tokens or 0,
        completion_tokens=usage.completion_tokens,
        cost_usd=usage.cost,
    )


def label_of(text: str) -> str | None:
    """The label in a classifier's JSON reply; None when there is none to be read."""
    try:
        return _REPLY.decode(text).label
    except msgspec.MsgspecError:
        return None


def whole(data: bytes) -> Answer:
    """The answer in a non-stream body.

    Raises:
        BadAnswerError: see `decode` and `answer`; `empty_choices` when there is no choice.
    """
    body = decode(data)
    if not body.choices:
        raise BadAnswerError("empty_choices")
    first = body.choices[0]
    text = (first.message.content if first.message else None) or ""
    return answer(text, body.usage, first.finish_reason)
