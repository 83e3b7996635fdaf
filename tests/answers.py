"""A call, its plan, and the bytes they become: what the tests of the wire share."""

import json
from typing import Any

from playing import played

from mock_llm import wire
from mock_llm.plan import Call, Plan
from mock_llm.timeline import Write, timeline

CREATED = 1_793_491_200
CALL = Call(key="review-1", model="openai/gpt-4o-mini", prompt_tokens=550)
STREAM = Call(key="review-1", model="openai/gpt-4o-mini", prompt_tokens=550, stream=True)
PLAN = Plan(
    first_token_s=1.0,
    last_token_s=2.0,
    reply='{"label":"positive","confidence":0.93}',
    completion_tokens=11,
    prompt_tokens=550,
    cached_tokens=50,
    cost_usd=0.001875,
    draw=0,
)
COMPLETION_USD = 0.000225


def completion(call: Call = CALL, plan: Plan = PLAN) -> bytes:
    who = wire.identity(call.key, plan.draw, CREATED)
    return wire.completion(who, call, plan, COMPLETION_USD)


def writes(call: Call, plan: Plan, keep_alive_s: float | None = None) -> list[Write]:
    return played(timeline(call, plan, CREATED, keep_alive_s=keep_alive_s, completion_usd=1e-6))


def dechunked(raw: bytes) -> tuple[bytes, bytes]:
    """Head and body of a response with chunked transfer encoding, which must be complete."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    body = b""
    while not rest.startswith(b"0\r\n"):
        size, _, rest = rest.partition(b"\r\n")
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) :].removeprefix(b"\r\n")
    assert rest == b"0\r\n\r\n"
    return head, body


def event_data(body: bytes) -> list[Any]:
    events = [event for event in body.split(b"\n\n") if event.startswith(b"data: ")]
    assert events.pop() == b"data: [DONE]"
    return [json.loads(event.removeprefix(b"data: ")) for event in events]
