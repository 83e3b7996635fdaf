"""Bodies of a 200 that are no answer: errors, no choices, no text, an end that is none.

Each is made from the good answer by changing what is wrong with it, so that all the rest keeps
OpenRouter's shape.
"""

from typing import Any, NamedTuple

import msgspec

from mock_llm import shapes, wire
from mock_llm.pacing import Write, text_events
from mock_llm.plan import Call, Plan
from mock_llm.wire import Identity

_CODES = {
    "timeout": 408,
    "rate_limit_exceeded": 429,
    "server": 500,
    "provider_unavailable": 502,
    "provider_overloaded": 503,
}
_DATA = b"data: "


class Stream(NamedTuple):
    """A stream without framing: timed events of text, then what follows the last token."""

    text: list[Write]
    tail: list[bytes]


def body(who: Identity, call: Call, plan: Plan, completion_usd: float) -> bytes:
    """Body of a non-stream 200 as the plan spoils it."""
    if "error_body" in plan.forms:
        return wire.encode(_bare_error(who, plan))
    good = shapes.completion(who, call, plan, completion_usd)
    if not _is_spoiled(plan):
        return good
    said = msgspec.json.decode(good)
    choice = said["choices"][0]
    if "null_content" in plan.forms:
        choice["message"]["content"] = None
    if plan.finish_reason == "error":
        choice["error"] = _error(plan)
    return wire.encode(_ended(said, plan))


def stream(who: Identity, call: Call, plan: Plan, completion_usd: float) -> Stream:
    """The events of a stream as the plan spoils them."""
    events = shapes.events(who, call, plan, completion_usd)
    if "error_body" in plan.forms:
        return Stream([], [_event(_bare_error(who, plan))])
    text = list(text_events(events, plan))
    if plan.finish_reason == "error":
        return Stream(text, _error_tail(events, plan))
    tail = [event for event in (events.finish, events.usage) if event]
    if "no_choices" in plan.forms:
        tail = tail[-1:]
    if _is_spoiled(plan):
        tail = [_event(_spoiled_chunk(event, plan)) for event in tail]
    return Stream(text, [*tail, wire.DONE])


def _is_spoiled(plan: Plan) -> bool:
    return not plan.reply or plan.finish_reason in {"", "error"}


def _error(plan: Plan) -> dict[str, object]:
    code: int | str = _CODES[plan.error]
    if "string_code" in plan.forms:
        code = "server_error"
    return {"code": code, "message": plan.message, "metadata": {"error_type": plan.error}}


def _bare_error(who: Identity, plan: Plan) -> dict[str, object]:
    return {"id": who.id, "error": {"message": plan.message, "code": _CODES[plan.error]}}


def _error_tail(events: wire.Events, plan: Plan) -> list[bytes]:
    """What ends a stream that broke off."""
    with_usage = "usage_chunk" in plan.forms and bool(events.usage)
    said = _chunk(events.usage if with_usage else events.finish)
    said["error"] = _error(plan)
    if not with_usage:
        return [_event(said)]
    _unfinished(said)
    return [_event(said), wire.DONE]


def _spoiled_chunk(event: bytes, plan: Plan) -> dict[str, Any]:
    said = _chunk(event)
    if "null_content" in plan.forms:
        for choice in said["choices"]:
            choice["delta"]["content"] = None
    return _ended(said, plan)


def _ended(said: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """With no choice, or no finish reason, where the plan has none."""
    if not plan.finish_reason:
        _unfinished(said)
    if "no_choices" in plan.forms:
        said["choices"] = []
    return said


def _unfinished(said: dict[str, Any]) -> None:
    for choice in said["choices"]:
        choice.update((name, None) for name in choice if name.endswith("finish_reason"))


def _chunk(event: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(event.removeprefix(_DATA))
    return found


def _event(said: dict[str, Any]) -> bytes:
    return _DATA + wire.encode(said) + b"\n\n"
