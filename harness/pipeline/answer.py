"""What a provider's answer says: strict where money and labels hang on it, lenient elsewhere."""

import json
from functools import lru_cache
from typing import Any, Literal

import msgspec

from harness.corpus.review import Label
from harness.pipeline.hints import passing, retry_after_s

UsageWord = Literal["reported", "missing", "implausible"]


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The part of a completion that the pipeline uses.

    Attributes:
        text: the reply as it came.
        label: `positive` or `negative`; None when the reply does not say.
        prompt_tokens: as billed.
        cached_tokens: of these, at the cached price.
        completion_tokens: as billed.
        cost_usd: the provider's own figure, None when it gave none.
        usage: whether the four above were `reported`; where they are `missing` or `implausible`
            they are 0 and None, which says nothing of the bill: it has to be estimated.
    """

    text: str
    label: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    usage: UsageWord = "reported"


class BadAnswerError(Exception):
    """The provider's answer cannot be used; the word is the record's."""

    def __init__(
        self,
        word: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        passing: bool | None = None,
    ) -> None:
        super().__init__(word)
        self.word = word
        self.status = status
        self.retry_after_s = retry_after_s
        self.passing = passing


class _Details(msgspec.Struct):
    cached_tokens: int | None = 0


class Usage(msgspec.Struct):
    """Token counts and cost of one completion."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
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
    metadata: Any = None


NO_USAGE = msgspec.Raw(b"null")


class Body(msgspec.Struct):
    """A completion, a chunk of one, or an error in a 200.

    The usage is read on its own: an answer whose bill is nonsense is an answer all the same.
    """

    choices: list[_Choice] | None = None
    usage: msgspec.Raw = NO_USAGE
    error: WireError | str | None = None


class _Reply(msgspec.Struct):
    label: Label


_BODY = msgspec.json.Decoder(Body)
_REPLY = msgspec.json.Decoder(_Reply)
_USAGE = msgspec.json.Decoder(Usage | None)

# More than any model takes in or any call costs: the largest context windows have ten million
# tokens (Llama 4 Scout), and the dearest model of the price list would bill $600 for one.
_MOST_TOKENS = 10_000_000
_MOST_USD = 1_000.0
_SSE_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


def decode(data: bytes | bytearray, content_type: str = "") -> Body:
    """A body, or a chunk of a stream.

    Args:
        data: all of it.
        content_type: as declared; a good body under a wrong name is good (ollama#12694), and one
            that cannot be read is named after it.

    Raises:
        BadAnswerError: `empty_body`, `html`, `sse_for_json`, `truncated_json`, `not_utf8`,
            `too_deep`, `wrong_shape`, `wrong_content_type`, `not_json`; or `upstream_error` for an
            error inside a 200.
    """
    if not data or data.isspace():
        raise BadAnswerError("empty_body")
    try:
        body = _BODY.decode(data)
    except (ValueError, RecursionError) as error:
        body = _read_again(data, content_type, error)
    if body.error is not None:
        raise _upstream_error(body.error)
    return body


def _read_again(data: bytes | bytearray, content_type: str, error: Exception) -> Body:
    """Read what only a lenient parser can: NaN, which Python's own `json` writes."""
    again = error
    if type(error) is msgspec.DecodeError:
        try:
            lenient = json.loads(data.decode(), parse_constant=str)
            return _BODY.decode(msgspec.json.encode(lenient))
        except (ValueError, RecursionError) as found:
            again = found
    raise BadAnswerError(_word(data, content_type, error, again)) from error


def _word(data: bytes | bytearray, content_type: str, error: Exception, again: Exception) -> str:
    """What bytes are that no answer can be read from."""
    start = bytes(data[:1000]).lstrip()
    if start.startswith(b"<") or "html" in content_type:
        return "html"
    if start.startswith(_SSE_FIELDS):
        return "sse_for_json"
    if RecursionError in {type(error), type(again)}:
        return "too_deep"
    cut = "truncated" in str(error)
    if isinstance(again, UnicodeError) and not (cut and "unexpected end" in str(again)):
        return "not_utf8"  # nor is half a pair of surrogates, which is no character
    if isinstance(again, msgspec.ValidationError):
        return "wrong_shape"
    if cut:
        return "truncated_json"
    return "not_json" if not content_type or "json" in content_type else "wrong_content_type"


def _upstream_error(error: WireError | str) -> BadAnswerError:
    if isinstance(error, str):
        return BadAnswerError("upstream_error")
    code = error.code if isinstance(error.code, int) else None
    found = error.metadata
    return BadAnswerError("upstream_error", code, retry_after_s({}, found), passing(code, found))


def answer(text: str, usage: msgspec.Raw, finish_reason: str | None) -> Answer:
    """Judge a whole reply; one that `max_tokens` cut off is one.

    Raises:
        BadAnswerError: `empty_content`, or `finish_error` for a reply broken off by its provider.
    """
    label = _label(text, finish_reason)
    try:
        found = _USAGE.decode(usage)
    except (ValueError, RecursionError):
        return Answer(text=text, label=label, usage="implausible")
    if found is None or found.prompt_tokens is None or found.completion_tokens is None:
        return Answer(text=text, label=label, usage="missing")
    details = found.prompt_tokens_details
    cached = (details.cached_tokens if details else 0) or 0
    return _billed(text, label, found.prompt_tokens, found.completion_tokens, cached, found.cost)


def told(
    text: str,
    finish_reason: str | None,
    prompt_tokens: int,
    completion_tokens: int,
    cached_tokens: int,
    cost_usd: float | None,
) -> Answer:
    """The same of a reply whose bill needs no reading: a simulation's.

    Raises:
        BadAnswerError: see `answer`.
    """
    label = _known_label(text, finish_reason)
    return _billed(text, label, prompt_tokens, completion_tokens, cached_tokens, cost_usd)


def _label(text: str, finish_reason: str | None) -> str | None:
    """The label of a whole reply; see `answer`."""
    if finish_reason == "error":
        raise BadAnswerError("finish_error")
    if not text or text.isspace():
        raise BadAnswerError("empty_content")
    return label_of(text)


_known_label = lru_cache(maxsize=1024)(_label)  # a simulation's few replies come again and again


def _billed(
    text: str, label: str | None, prompt: int, completion: int, cached: int, usd: float | None
) -> Answer:
    # A reply that has text was billed for some; only its cost may be nothing.
    plausible = 0 < prompt <= _MOST_TOKENS and 0 < completion <= _MOST_TOKENS
    if not (plausible and 0 <= cached <= prompt and (usd is None or 0 <= usd <= _MOST_USD)):
        return Answer(text=text, label=label, usage="implausible")
    return Answer(
        text=text,
        label=label,
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
        cost_usd=usd,
    )


def label_of(text: str) -> str | None:
    """The label in a classifier's JSON reply; None when there is none to be read."""
    try:
        return _REPLY.decode(text).label
    except (ValueError, RecursionError):
        return None


def whole(data: bytes | bytearray, content_type: str = "") -> Answer:
    """The answer in a non-stream body.

    Raises:
        BadAnswerError: see `decode` and `answer`; `empty_choices` when there is no choice.
    """
    body = decode(data, content_type)
    if not body.choices:
        raise BadAnswerError("empty_choices")
    first = body.choices[0]
    text = (first.message.content if first.message else None) or ""
    return answer(text, body.usage, first.finish_reason)
