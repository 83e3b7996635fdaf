"""OpenRouter's answers as bytes: pure functions of a call, its plan and the second of admission.

Shapes follow OpenRouter's published OpenAPI document; the official SDK's strict models are the
oracle in the tests. Nothing is drawn: ids are a hash of the request key and its draw, so a repeated
run gives the same bytes.
"""

import string
from collections.abc import Mapping
from decimal import Decimal
from hashlib import blake2b

import msgspec

from mock_llm.config import Model
from mock_llm.plan import Call, Plan

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
DONE = b"data: [DONE]\n\n"
PROCESSING = b": OPENROUTER PROCESSING\n\n"
KEEP_ALIVE = b"\n         \n"  # 11 bytes of whitespace before the JSON of a slow answer

encode = msgspec.json.Encoder().encode


class Identity(msgspec.Struct, frozen=True):
    """How an answer is known: `gen-<unix seconds>-<20 alphanumerics>` and Cloudflare's ray."""

    id: str
    ray: str
    created: int


class PromptDetails(msgspec.Struct, frozen=True):
    """Of the prompt tokens."""

    cached_tokens: int
    cache_write_tokens: int = 0
    audio_tokens: int = 0
    video_tokens: int = 0


class CostDetails(msgspec.Struct, frozen=True):
    """Dollars by where they went."""

    upstream_inference_cost: float
    upstream_inference_prompt_cost: float
    upstream_inference_completions_cost: float


class CompletionDetails(msgspec.Struct, frozen=True):
    """Of the completion tokens."""

    reasoning_tokens: int = 0
    image_tokens: int = 0
    audio_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Tokens, and dollars as OpenRouter adds them to OpenAI's shape."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: float
    is_byok: bool
    prompt_tokens_details: PromptDetails
    cost_details: CostDetails
    completion_tokens_details: CompletionDetails


class Message(msgspec.Struct, frozen=True):
    """What the assistant said."""

    role: str
    content: str
    refusal: None = None
    reasoning: None = None


class Choice(msgspec.Struct, frozen=True):
    """The only choice: nobody is offered `n`."""

    index: int
    logprobs: None
    finish_reason: str
    native_finish_reason: str
    message: Message


class Completion(msgspec.Struct, frozen=True):
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


class Delta(msgspec.Struct, frozen=True):
    """A piece of the answer; the role is repeated on every one."""

    role: str
    content: str


class ChunkChoice(msgspec.Struct, frozen=True):
    """The only choice of a chunk."""

    index: int
    delta: Delta
    finish_reason: str | None
    native_finish_reason: str | None


class Chunk(msgspec.Struct, frozen=True):
    """One server-sent event."""

    id: str
    object: str
    created: int
    model: str
    provider: str
    choices: tuple[ChunkChoice]


class UsageChunk(Chunk, frozen=True):
    """The last event, in the shape of August 2026: the finish chunk again, with usage."""

    service_tier: None
    usage: Usage


class Events(msgspec.Struct, frozen=True):
    """The parts a stream is put together from; `piece` makes one event of one piece of text."""

    before: bytes
    after: bytes
    finish: bytes
    usage: bytes

    def piece(self, text: str) -> bytes:
        """The event that carries a piece of the answer."""
        return self.encoded(encode(text))

    def encoded(self, text: bytes) -> bytes:
        """The same of a piece that is JSON already."""
        return self.before + text + self.after


def identity(key: str, draw: int, created: int) -> Identity:
    """Id and ray of the attempt that used this draw of this request's weather."""
    digest = blake2b(f"{draw}:{key}".encode("utf-8", "surrogatepass"), digest_size=28).digest()
    suffix = digest[:20].translate(_TO_ALNUM).decode()
    return Identity(f"gen-{created:010d}-{suffix}", digest[20:].hex(), created)


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
        CompletionDetails(),
    )


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
            (Choice(0, None, reason, reason, Message("assistant", plan.reply)),),
            usage_of(plan, completion_usd),
        )
    )


def events(who: Identity, call: Call, plan: Plan, completion_usd: float) -> Events:
    """The events of a stream, all but the text."""
    base = (who.id, "chat.completion.chunk", who.created, call.model, provider_name(call.model))
    delta = Delta("assistant", "")
    reason = plan.finish_reason
    end = (ChunkChoice(0, delta, reason, reason),)
    # Inside a JSON string every quote is escaped, so this text can stand nowhere else.
    before, _, after = encode(Chunk(*base, (ChunkChoice(0, delta, None, None),))).rpartition(
        b'"content":""'
    )
    return Events(
        b"data: " + before + b'"content":',
        after + b"\n\n",
        b"data: " + encode(Chunk(*base, end)) + b"\n\n",
        b"data: " + encode(UsageChunk(*base, end, None, usage_of(plan, completion_usd))) + b"\n\n",
    )


def models(offered: Mapping[str, Model], created: int) -> bytes:
    """Body of `GET /models`, in the order of the scenario."""
    data = [_listed(slug, model, created) for slug, model in offered.items()]
    return encode({"data": data, "total_count": len(data), "links": {"next": None}})


def _listed(slug: str, model: Model, created: int) -> dict[str, object]:
    name = slug.rpartition("/")[2]
    return {
        "id": slug,
        "canonical_slug": slug,
        "name": f"{provider_name(slug)}: {name}",
        "created": created,
        "description": "",
        "context_length": model.context_length,
        "architecture": {
            "modality": "text->text",
            "input_modalities": ["text"],
            "output_modalities": ["text"],
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": {
            "prompt": _per_token(model.prompt_usd_per_m),
            "completion": _per_token(model.completion_usd_per_m),
        },
        "top_provider": {
            "is_moderated": False,
            "context_length": model.context_length,
            "max_completion_tokens": None,
        },
        "per_request_limits": None,
        "supported_parameters": ["max_tokens", "max_completion_tokens"],
        "default_parameters": None,
        "supported_voices": None,
        "links": {"details": f"/api/v1/models/{slug}/endpoints"},
    }


def _per_token(usd_per_m: float) -> str:
    """Dollars per token as OpenRouter writes them: a plain decimal, never an exponent."""
    return f"{Decimal(repr(usd_per_m)) / 1_000_000:f}"
