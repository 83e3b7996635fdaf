"""What goes out when: a plan becomes timed bytes, lazily, because a slow answer has many.

Three ways to answer 200, as OpenRouter does. A quick non-stream answer is one plain response. A
slow one opens with whitespace: 200 and a keep-alive after every interval, the JSON at the end
(without them the `openrouter` SDK gives up after its 5 s read timeout). A stream opens at once, has
comments until its first token, then about one event a token. A refusal comes alone when it is
ready; a hang sends nothing at all.
"""

import re
from collections.abc import Iterator
from itertools import count, groupby

import msgspec

from mock_llm import envelope, framing, wire
from mock_llm.framing import Framing
from mock_llm.plan import Call, Plan

_PIECES = re.compile(r"\s*\w+|\s*[^\w\s]+|\s+")  # words and marks: about one a token


class Write(msgspec.Struct, frozen=True, gc=False):
    """Bytes due together.

    Attributes:
        at_s: when, from admission.
        data: raw bytes for the connection, framing included.
        tokens: completion tokens delivered once these bytes are out.
    """

    at_s: float
    data: bytes
    tokens: int = 0


def timeline(
    call: Call,
    plan: Plan,
    created: int,
    *,
    keep_alive_s: float | None,
    completion_usd: float = 0.0,
    frame: Framing = Framing(),  # noqa: B008 - immutable
) -> Iterator[Write]:
    """Return everything one attempt sends, in order of time.

    Args:
        call: the request.
        plan: what was decided for it.
        created: unix second of its admission.
        keep_alive_s: interval of keep-alives; None for silence.
        completion_usd: the part of the plan's cost that the completion has.
        frame: how the connection wants it.
    """
    if plan.ending == "hang":
        return iter(())
    if plan.status != 200:
        refusal = envelope.planned(call, plan)
        fields = framing.JSON + refusal.fields
        whole = frame.whole(refusal.status, fields, refusal.body)
        return iter((Write(plan.first_token_s, whole),))
    who = wire.identity(call.key, plan.draw, created)
    marks = framing.marks(who)
    if call.stream:
        events = wire.events(who, call, plan, completion_usd)
        return _stream(framing.EVENTS + marks, events, plan, keep_alive_s, frame)
    body = wire.completion(who, call, plan, completion_usd)
    if keep_alive_s is not None and plan.last_token_s > keep_alive_s:
        return _slow(framing.JSON + marks, body, plan, keep_alive_s, frame)
    whole = frame.whole(200, framing.JSON + marks, body)
    return iter((Write(plan.last_token_s, whole, plan.completion_tokens),))


def _slow(
    fields: bytes, body: bytes, plan: Plan, keep_alive_s: float, frame: Framing
) -> Iterator[Write]:
    end_s = plan.last_token_s
    opening = frame.opening(fields)
    for at_s in _ticks(keep_alive_s, end_s):
        yield Write(at_s, opening + frame.piece(wire.KEEP_ALIVE))
        opening = b""
    yield Write(end_s, frame.piece(body) + frame.end, plan.completion_tokens)


def _stream(
    fields: bytes, events: wire.Events, plan: Plan, keep_alive_s: float | None, frame: Framing
) -> Iterator[Write]:
    opening = frame.opening(fields)
    if plan.first_token_s > 0:
        yield Write(0.0, opening)
        opening = b""
    for at_s in _ticks(keep_alive_s, plan.first_token_s):
        yield Write(at_s, frame.piece(wire.PROCESSING))
    for at_s, together in groupby(_tokens(events, plan), key=lambda write: write.at_s):
        due = list(together)
        last = due[-1].data == wire.DONE
        data = opening + frame.piece(b"".join([write.data for write in due]))
        yield Write(at_s, data + frame.end if last else data, due[-1].tokens)
        opening = b""


def _tokens(events: wire.Events, plan: Plan) -> Iterator[Write]:
    """The events of a stream without framing, the reply cut in pieces.

    Tokens are evenly spaced. A piece leaves with its first token, so that the first text is there
    at `first_token_s` however pieces and tokens relate; what ends the stream is at `last_token_s`.
    """
    pieces = _PIECES.findall(plan.reply)
    tokens = plan.completion_tokens
    for index, piece in enumerate(pieces):
        token = index * tokens // len(pieces)
        yield Write(_token_s(plan, token), events.piece(piece), token + 1)
    for data in (events.finish, events.usage, wire.DONE):
        yield Write(plan.last_token_s, data, tokens)


def _token_s(plan: Plan, index: int) -> float:
    last = plan.completion_tokens - 1
    if index >= last > 0:
        return plan.last_token_s  # to the digit, so that the end goes out with the last token
    span_s = plan.last_token_s - plan.first_token_s
    return plan.first_token_s + span_s * index / max(last, 1)


def _ticks(interval_s: float | None, until_s: float) -> Iterator[float]:
    """Multiples of the interval before `until_s`; multiplied, since sums would drift."""
    if interval_s is None:
        return
    for number in count(1):
        if (at_s := number * interval_s) >= until_s:
            return
        yield at_s
