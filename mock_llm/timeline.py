"""What goes out when: a plan becomes a script of timed bytes, lazily, because a stream has many.

Three ways to answer 200, as OpenRouter does. A quick non-stream answer is one plain response. A
slow one opens with whitespace: 200 and a keep-alive after every interval, the JSON at the end
(without them the `openrouter` SDK gives up after its 5 s read timeout). A stream opens at once, has
comments while there is nothing to say, and about one event a token. A refusal comes alone when it
is ready; a hang sends nothing at all. What faults make of an answer is in `broken`.
"""

from collections.abc import Iterator

from mock_llm import envelope, framing, pages, shapes, wire
from mock_llm.broken import Broken
from mock_llm.framing import Framing
from mock_llm.pacing import Write, joined_events, text_parts
from mock_llm.plan import Call, Plan
from mock_llm.playback import Script
from mock_llm.tape_script import tape_script
from mock_llm.wire import Style

__all__ = ["Script", "Write", "timeline"]

_SILENCE = Script()
_COMMENT = {chunked: Framing(chunked=chunked).piece(wire.PROCESSING) for chunked in (True, False)}


def timeline(
    call: Call,
    plan: Plan,
    created: int,
    *,
    keep_alive_s: float | None,
    completion_usd: float = 0.0,
    frame: Framing = Framing(),  # noqa: B008 - immutable
    elastic: bool = False,
    style: Style = wire.OPENROUTER,
    page: tuple[bytes, bytes] | None = None,
) -> Script:
    """Return everything one attempt sends.

    Args:
        call: the request.
        plan: what was decided for it.
        created: unix second of its admission.
        keep_alive_s: interval of keep-alives; None for silence.
        completion_usd: the part of the plan's cost that the completion has.
        frame: how the connection wants it.
        elastic: it may take longer than planned, so that any answer may need keep-alives.
        style: what is spoken.
        page: header fields and body of a page that no model makes.
    """
    if plan.tape is not None:
        return tape_script(plan.tape, frame, whole=plan.ending in {"clean", "refused", "end"})
    if plan.ending == "hang":
        return _SILENCE
    who = wire.identity(call.key, plan.draw, created, style)
    if plan.status != 200:
        return Script((Write(plan.first_token_s, _refusal(call, plan, who, frame)),))
    if page is not None:
        return _page(plan, who, frame, *page)
    if plan.forms or plan.ending != "clean":
        return Broken(call, plan, who, completion_usd, keep_alive_s, frame, elastic).script()
    marks = shapes.marks(who, call, plan)
    if call.stream:
        events = shapes.events(who, call, plan, completion_usd)
        return Script(
            _events(events, plan, frame),
            opening=frame.opening(framing.EVENTS + marks),
            at_once=True,
            keep_alive=b"" if keep_alive_s is None else _COMMENT[frame.chunked],
            interval_s=keep_alive_s or 0.0,
            between=True,
        )
    body = shapes.completion(who, call, plan, completion_usd)
    whole = frame.whole(200, framing.JSON + marks, body)
    end_s, tokens = plan.last_token_s, plan.completion_tokens
    if keep_alive_s is None or not (elastic or end_s + plan.setup_s > keep_alive_s):
        return Script((Write(end_s, whole, tokens),))
    return Script(
        (Write(end_s, frame.piece(body) + frame.end, tokens),),
        opening=frame.opening(framing.JSON + marks),
        unopened=whole,
        keep_alive=frame.piece(wire.KEEP_ALIVE),
        interval_s=keep_alive_s,
    )


def _refusal(call: Call, plan: Plan, who: wire.Identity, frame: Framing) -> bytes:
    if "html" in plan.forms:
        return frame.whole(
            plan.status, pages.HTML + framing.ray(who), pages.page(plan.status, who.ray)
        )
    refusal = shapes.refusal(envelope.planned(call, plan, who.created), who.style, who.id)
    return frame.whole(refusal.status, framing.JSON + refusal.fields, refusal.body)


def _events(events: wire.Events, plan: Plan, frame: Framing) -> Iterator[Write]:
    """The events of a stream; those due at one instant leave in one piece."""
    due: list[bytes] = []
    last_s, due_s, tokens = plan.last_token_s, plan.first_token_s, 0
    if due_s == last_s:
        due.append(joined_events(events, plan))
    else:
        for at_s, data, said in text_parts(events, plan):
            if at_s != due_s and due:
                yield Write(due_s, frame.piece(b"".join(due)), tokens)
                due.clear()
            due_s, tokens = at_s, said
            due.append(data)
        if last_s != due_s and due:
            yield Write(due_s, frame.piece(b"".join(due)), tokens)
            due.clear()
    # What ends a stream comes with its last token.
    due += filter(None, (events.finish, events.usage, wire.DONE))
    yield Write(last_s, frame.piece(b"".join(due)) + frame.end, plan.completion_tokens)


def _page(plan: Plan, who: wire.Identity, frame: Framing, fields: bytes, body: bytes) -> Script:
    """A page, or what a fault leaves of it."""
    if "html" in plan.forms:
        fields, body = pages.HTML + framing.ray(who), pages.page(200, who.ray)
    elif plan.reach == "nothing":
        return Script()
    whole = frame.whole(200, fields, body)
    sent = len(body) if plan.reach != "part" else int(len(body) * plan.share)
    return Script((Write(plan.last_token_s, whole[: len(whole) - len(body) + sent]),))
