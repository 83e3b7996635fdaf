"""OpenRouter's answers as bytes: pure functions of a call, its plan and the second of admission.

Shapes follow OpenRouter's published OpenAPI document; the official SDK's strict models are the
oracle in the tests. Nothing is drawn: ids are a hash of the request key and its draw, so a repeated
run gives the same bytes.
"""

import re
import string
from collections.abc import Iterator
from hashlib import blake2b
from typing import Literal

import msgspec

from mock_llm.plan import Call, Plan, ToolCall

_ALNUM = string.ascii_letters + string.digits
_TO_ALNUM = bytes(ord(_ALNUM[byte % len(_ALNUM)]) for byte in range(256))
_PROVIDERS = {
    "ai21": "AI21",
    "anthropic": "Anthropic",
    "cohere": "Cohere",
    "deepseek": "DeepSeek",
    "google": "Google",
    "meta-llama": "Meta",
    "mistralai": "Mistral",
    "nvidia": "NVIDIA",
    "openai": "OpenAI",
    "qwen": "Alibaba",
    "x-ai": "xAI",
}
_PIECES = re.compile(r"\s*\w+|\s*[^\w\s]+|\s+")
DONE = b"data: [DONE]\n\n"
PROCESSING = b": OPENROUTER PROCESSING\n\n"
KEEP_ALIVE = b"\n         \n"  # 11 bytes of whitespace before the JSON of a slow answer

encode = msgspec.json.Encoder().encode


class Style(msgspec.Struct, frozen=True, gc=False):
    """What is spoken, and the settings of it; see `config.Upstream`.

    Attributes:
        fields: header fields that every answer to this request has, whatever becomes of it.
    """

    dialect: Literal["openrouter", "openai"] = "openrouter"
    usage_chunk: Literal["finish_again", "no_choices", "empty_delta"] = "finish_again"
    user_id: str | None = None
    fields: bytes = b""


OPENROUTER = Style()


class Identity(msgspec.Struct, frozen=True, gc=False):
    """How an answer is known: `gen-<unix seconds>-<20 alphanumerics>` and Cloudflare's ray."""

    id: str
    ray: str
    created: int
    style: Style = OPENROUTER


class PromptDetails(msgspec.Struct, frozen=True, gc=False):
    """Of the prompt tokens."""

    cached_tokens: int
    cache_write_tokens: int = 0
    audio_tokens: int = 0
    video_tokens: int = 0


class CostDetails(msgspec.Struct, frozen=True, gc=False):
    """Dollars by where they went."""

    upstream_inference_cost: float
    upstream_inference_prompt_cost: float
    upstream_inference_completions_cost: float


class CompletionDetails(msgspec.Struct, frozen=True, gc=False):
    """Of the completion tokens."""

    reasoning_tokens: int = 0
    image_tokens: int = 0
    audio_tokens: int = 0


_NO_DETAILS = CompletionDetails()


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens, and dollars as OpenRouter adds them to OpenAI's shape."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: float
    is_byok: bool
    prompt_tokens_details: PromptDetails
    cost_details: CostDetails
    completion_tokens_details: CompletionDetails


class Message(msgspec.Struct, frozen=True, gc=False):
    """What the assistant said."""

    role: str
    content: str
    refusal: None = None
    reasoning: None = None


class CalledFunction(msgspec.Struct, frozen=True, gc=False):
    """The function, and its arguments as JSON in a string."""

    name: str
    arguments: str


class Called(msgspec.Struct, frozen=True, gc=False):
    """A call of a tool."""

    index: int
    id: str
    type: str
    function: CalledFunction


class ToolMessage(msgspec.Struct, frozen=True, gc=False):
    """What the assistant calls in place of an answer."""

    role: str
    content: None
    refusal: None
    reasoning: None
    tool_calls: list[Called]


class Choice(msgspec.Struct, frozen=True, gc=False):
    """The only choice: nobody is offered `n`."""

    index: int
    logprobs: None
    finish_reason: str
    native_finish_reason: str
    message: Message | ToolMessage


class Completion(msgspec.Struct, frozen=True, gc=False):
    """A non-stream 200. The SDK rejects it without `system_fingerprint`."""

    id: str
    object: str
    created: int
    model: str
    provider: str
    system_fingerprint: None
    service_tier: None
    choices: tuple[Choice]
    usage: Usage


class Delta(msgspec.Struct, frozen=True, gc=False):
    """A piece of the answer; the role is repeated on every one."""

    role: str
    content: str


class CalledPiece(msgspec.Struct, frozen=True, gc=False):
    """A piece of a call's arguments."""

    index: int
    type: str
    function: dict[str, str]


class ToolDelta(msgspec.Struct, frozen=True, gc=False):
    """A piece of a call: first its id and name without arguments, then the arguments."""

    role: str
    content: None
    tool_calls: tuple[Called | CalledPiece]


class ChunkChoice(msgspec.Struct, frozen=True, gc=False):
    """The only choice of a chunk."""

    index: int
    delta: Delta | ToolDelta
    finish_reason: str | None
    native_finish_reason: str | None


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """One server-sent event."""

    id: str
    object: str
    created: int
    model: str
    provider: str
    choices: tuple[ChunkChoice, ...]


class UsageChunk(Chunk, frozen=True, gc=False):
    """The last event, with the usage."""

    service_tier: None
    usage: Usage


class Events(msgspec.Struct, frozen=True, gc=False):
    """The parts a stream is put together from; `piece` makes one event of one piece of text.

    Attributes:
        before: of the event around a piece of text.
        after: likewise.
        finish: the event that says why it ends.
        usage: the last event, b"" for none.
        opening: an event before the first piece, b"" for none.
        calls: in place of text: the events of tool calls.
    """

    before: bytes
    after: bytes
    finish: bytes
    usage: bytes
    opening: bytes = b""
    calls: tuple[bytes, ...] = ()

    def piece(self, text: str) -> bytes:
        """The event that carries a piece of the answer."""
        return self.encoded(encode(text))

    def encoded(self, text: bytes) -> bytes:
        """The same of a piece that is JSON already."""
        return self.before + text + self.after


def identity(key: str, draw: int, created: int, style: Style = OPENROUTER) -> Identity:
    """Id and ray of the attempt that used this draw of this request's weather."""
    digest = blake2b(f"{draw}:{key}".encode("utf-8", "surrogatepass"), digest_size=28).digest()
    suffix = digest[:20].translate(_TO_ALNUM).decode()
    return Identity(f"gen-{created:010d}-{suffix}", digest[20:].hex(), created, style)


def provider_name(model: str) -> str:
    """Display name of who serves a model, from its slug's first part."""
    author = model.partition("/")[0]
    return _PROVIDERS.get(author) or author.replace("-", " ").title()


def usage_of(plan: Plan, completion_usd: float) -> Usage:
    """Usage of a completed answer; `completion_usd` of its cost went to the completion."""
    return Usage(
        plan.prompt_tokens,
        plan.completion_tokens,
        plan.prompt_tokens + plan.completion_tokens,
        plan.cost_usd,
        False,
        PromptDetails(plan.cached_tokens),
        CostDetails(plan.cost_usd, max(plan.cost_usd - completion_usd, 0.0), completion_usd),
        _NO_DETAILS,
    )


def message(who: Identity, plan: Plan) -> Message | ToolMessage:
    """What the assistant says, or calls."""
    if plan.tool_calls:
        return ToolMessage("assistant", None, None, None, called(who, plan.tool_calls))
    return Message("assistant", plan.reply)


def called(who: Identity, calls: tuple[ToolCall, ...]) -> list[Called]:
    """Calls as they are sent: their ids are the answer's own."""
    return [
        Called(index, call_id(who, index), "function", CalledFunction(call.name, call.arguments))
        for index, call in enumerate(calls)
    ]


def call_id(who: Identity, index: int) -> str:
    """Id of one call of an answer."""
    digest = blake2b(f"{index}:{who.id}".encode(), digest_size=24).digest()
    return f"call_{digest.translate(_TO_ALNUM).decode()}"


def completion(who: Identity, call: Call, plan: Plan, completion_usd: float) -> bytes:
    """Body of a non-stream 200."""
    reason = plan.finish_reason
    return encode(
        Completion(
            who.id,
            "chat.completion",
            who.created,
            call.model,
            provider_name(call.model),
            None,
            None,
            (Choice(0, None, reason, reason, message(who, plan)),),
            usage_of(plan, completion_usd),
        )
    )


def events(who: Identity, call: Call, plan: Plan, completion_usd: float) -> Events:
    """The events of a stream, all but the text."""
    base = (who.id, "chat.completion.chunk", who.created, call.model, provider_name(call.model))
    delta = Delta("assistant", "")
    reason = plan.finish_reason
    idle = ChunkChoice(0, delta, None, None)
    end = (ChunkChoice(0, delta, reason, reason),)
    # Inside a JSON string every quote is escaped, so this text can stand nowhere else.
    before, _, after = encode(Chunk(*base, (idle,))).rpartition(b'"content":""')
    shape = who.style.usage_chunk
    last = end if shape == "finish_again" else (idle,) if shape == "empty_delta" else ()
    return Events(
        b"data: " + before + b'"content":',
        after + b"\n\n",
        event(Chunk(*base, end)),
        event(UsageChunk(*base, last, None, usage_of(plan, completion_usd))),
        calls=tuple(
            event(
                Chunk(*base, (ChunkChoice(0, ToolDelta("assistant", None, (piece,)), None, None),))
            )
            for piece in call_pieces(who, plan)
        ),
    )


def event(said: object) -> bytes:
    """One server-sent event."""
    return b"data: " + encode(said) + b"\n\n"


def call_pieces(who: Identity, plan: Plan) -> Iterator[Called | CalledPiece]:
    """Calls in pieces: the head of each, then its arguments."""
    for call in called(who, plan.tool_calls):
        yield msgspec.structs.replace(call, function=CalledFunction(call.function.name, ""))
        for text in pieces(call.function.arguments):
            yield CalledPiece(call.index, "function", {"arguments": text})


def pieces(text: str) -> list[str]:
    """A text in words and marks: about one a token."""
    return _PIECES.findall(text)
