"""What goes out when: a plan becomes timed bytes, lazily, because a slow answer has many.

Three ways to answer 200, as OpenRouter does. A quick non-stream answer is one plain response. A
slow one opens with whitespace: 200 and a keep-alive after every interval, the JSON at the end
(without them the `openrouter` SDK gives up after its 5 s read timeout). A stream opens at once, has
comments until its first token, then about one event a token. A refusal comes alone when it is
ready; a hang sends nothing at all. What faults make of an answer is in `broken`.
"""

from collections.abc import Iterator
from itertools import groupby

from mock_llm import envelope, framing, pages, shapes, wire
from mock_llm.broken import Broken
from mock_llm.framing import Framing
from mock_llm.pacing import Write, text_events, ticks
from mock_llm.plan import Call, Plan
from mock_llm.wire import Style

__all__ = ["Write", "timeline"]


def timeline(
    call: Call,
    plan: Plan,
    created: int,
    *,
    keep_alive_s: float | None,
    completion_usd: float = 0.0,
    frame: Framing = Framing(),  # noqa: B008 - immutable
    style: Style = wire.OPENROUTER,
    body: bytes | None = None,
) -> Iterator[Write]:
    """Return everything one attempt sends, in order of time.

    Args:
        call: the request.
        plan: what was decided for it.
        created: unix second of its admission.
        keep_alive_s: interval of keep-alives; None for silence.
        completion_usd: the part of the plan's cost that the completion has.
        frame: how the connection wants it.
        style: what is spoken.
        body: JSON of a page that no model makes: sent whole whatever faults do to answers, unless
            the plan is a refusal or a hang.
    """
    if plan.ending == "hang":
        return iter(())
    who = wire.identity(call.key, plan.draw, created, style)
    if plan.status != 200:
        return iter((Write(plan.first_token_s, _refusal(call, plan, who, frame)),))
    if body is not None:
        return iter((Write(plan.last_token_s, frame.whole(200, framing.JSON, body)),))
    if plan.forms or plan.ending != "clean":
        return Broken(call, plan, who, completion_usd, keep_alive_s, frame).writes()
    marks = shapes.marks(who, call, plan)
    if call.stream:
        events = shapes.events(who, call, plan, completion_usd)
        return _stream(framing.EVENTS + marks, events, plan, keep_alive_s, frame)
    body = shapes.completion(who, call, plan, completion_usd)
    if keep_alive_s is not None and plan.last_token_s > keep_alive_s:
        return _slow(framing.JSON + marks, body, plan, keep_alive_s, frame)
    whole = frame.whole(200, framing.JSON + marks, body)
    return iter((Write(plan.last_token_s, whole, plan.completion_tokens),))


def _refusal(call: Call, plan: Plan, who: wire.Identity, frame: Framing) -> bytes:
    if "html" in plan.forms:
        return frame.whole(
            plan.status, pages.HTML + framing.ray(who), pages.page(plan.status, who.ray)
        )
    refusal = shapes.refusal(envelope.planned(call, plan, who.created), who.style, who.id)
    return frame.whole(refusal.status, framing.JSON + refusal.fields, refusal.body)


def _slow(
    fields: bytes, body: bytes, plan: Plan, keep_alive_s: float, frame: Framing
) -> Iterator[Write]:
    end_s = plan.last_token_s
    opening = frame.opening(fields)
    for at_s in ticks(keep_alive_s, end_s):
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
    for at_s in ticks(keep_alive_s, plan.first_token_s):
        yield Write(at_s, frame.piece(wire.PROCESSING))
    for at_s, together in groupby(_timed(events, plan), key=lambda write: write.at_s):
        due = list(together)
        last = due[-1].data == wire.DONE
        data = opening + frame.piece(b"".join([write.data for write in due]))
        yield Write(at_s, data + frame.end if last else data, due[-1].tokens)
        opening = b""


def _timed(events: wire.Events, plan: Plan) -> Iterator[Write]:
    """The events of a stream without framing; what ends it comes with the last token."""
    yield from text_events(events, plan)
    for data in filter(None, (events.finish, events.usage, wire.DONE)):
        yield Write(plan.last_token_s, data, plan.completion_tokens)
