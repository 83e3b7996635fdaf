"""OpenAI's own answers as bytes, for clients that are tested without OpenRouter in between.

Shapes follow OpenAI's API reference; the `openai` client is the oracle in the tests. What
OpenRouter adds (provider, cost, keep-alives, its id and Cloudflare's) is not there.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import msgspec

from mock_llm.envelope import Refusal
from mock_llm.plan import Call, Plan, Quota
from mock_llm.quota import duration
from mock_llm.wire import Events, Identity, Style, call_pieces, called, encode, event

_TYPES = {402: "insufficient_quota", 429: "requests"}
_CODES = {
    "authentication": "invalid_api_key",
    "context_length_exceeded": "context_length_exceeded",
    "model_not_found": "model_not_found",
    "payment_required": "insufficient_quota",
    "rate_limit_exceeded": "rate_limit_exceeded",
}


def completion(who: Identity, call: Call, plan: Plan) -> bytes:
    """Body of a non-stream 200."""
    message: dict[str, object] = {
        "role": "assistant",
        "content": None if plan.tool_calls else plan.reply,
        "refusal": None,
        "annotations": [],
    }
    if plan.tool_calls:
        message["tool_calls"] = [
            {"id": one.id, "type": one.type, "function": one.function}
            for one in called(who, plan.tool_calls)
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": plan.finish_reason}
    return encode(
        {
            **_base(who, call, "chat.completion"),
            "choices": [choice],
            "usage": _usage(plan),
            "service_tier": "default",
        }
    )


def events(who: Identity, call: Call, plan: Plan) -> Events:
    """The events of a stream, all but the text; the usage only when it was asked for."""
    base = _base(who, call, "chat.completion.chunk")
    more: dict[str, object] = {"usage": None} if call.include_usage else {}

    def chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**base, "choices": [choice], **more})

    start: dict[str, object] = {"role": "assistant", "content": "", "refusal": None}
    if plan.tool_calls:
        start["content"] = None
    before, _, after = chunk({"content": ""}).rpartition(b'"content":""')
    return Events(
        before + b'"content":',
        after,
        chunk({}, plan.finish_reason),
        event({**base, "choices": [], "usage": _usage(plan)}) if call.include_usage else b"",
        opening=chunk(start),
        calls=tuple(chunk({"tool_calls": [piece]}) for piece in _pieces(who, plan)),
    )


def _pieces(who: Identity, plan: Plan) -> Iterable[dict[str, Any]]:
    for piece in call_pieces(who, plan):
        part = msgspec.to_builtins(piece)
        if "id" not in part:
            del part["type"]
        yield part


def marks(salt: str, ready_s: float) -> bytes:
    """Header fields of one request: its id and the time it took, in milliseconds."""
    number = blake2b(salt.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    took_ms = round(ready_s * 1000)
    return (
        f"x-request-id: req_{number}\r\nopenai-processing-ms: {took_ms}\r\n"
        "openai-version: 2020-10-01\r\n"
    ).encode()


def limits(quota: Quota) -> bytes:
    """Header fields of what is left."""
    return "".join(
        f"x-ratelimit-limit-{name}: {left.limit}\r\n"
        f"x-ratelimit-remaining-{name}: {left.remaining}\r\n"
        f"x-ratelimit-reset-{name}: {duration(left.reset_s)}\r\n"
        for name, left in (("requests", quota.requests), ("tokens", quota.tokens))
    ).encode()


def refusal(made: Refusal, style: Style, salt: str) -> Refusal:
    """An error in OpenAI's envelope, made of one in OpenRouter's."""
    kind = "server_error" if made.status >= 500 else "invalid_request_error"
    error = {
        "message": msgspec.json.decode(made.body)["error"]["message"],
        "type": _TYPES.get(made.status, kind),
        "param": None,
        "code": _CODES.get(made.error),
    }
    fields = made.fields + style.fields + marks(salt, 0.0)
    return Refusal(made.status, made.error, fields, encode({"error": error}))


def models(slugs: Iterable[str], created: int) -> bytes:
    """Body of `GET /v1/models`."""
    data = [_listed(slug, created) for slug in slugs]
    return encode({"object": "list", "data": data})


def model(slug: str, created: int) -> bytes:
    """Body of `GET /v1/models/{model}`."""
    return encode(_listed(slug, created))


def _listed(slug: str, created: int) -> dict[str, object]:
    author, _, name = slug.rpartition("/")
    return {"id": name, "object": "model", "created": created, "owned_by": author or "openai"}


def _base(who: Identity, call: Call, kind: str) -> dict[str, object]:
    return {
        "id": who.id.replace("gen-", "chatcmpl-").replace(f"{who.created:010d}-", ""),
        "object": kind,
        "created": who.created,
        "model": call.model.rpartition("/")[2],
        "system_fingerprint": f"fp_{blake2b(call.model.encode(), digest_size=5).hexdigest()}",
    }


def _usage(plan: Plan) -> dict[str, object]:
    return {
        "prompt_tokens": plan.prompt_tokens,
        "completion_tokens": plan.completion_tokens,
        "total_tokens": plan.prompt_tokens + plan.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": plan.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
