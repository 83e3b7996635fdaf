"""The last words of a server that stops while answers are under way."""

import msgspec

from mock_llm import defects, envelope, framing, shapes, wire
from mock_llm.faults.errors import ERRORS
from mock_llm.framing import Framing
from mock_llm.plan import Call, Plan
from mock_llm.wire import Style


def farewell(
    call: Call, plan: Plan, created: int, frame: Framing, style: Style, *, is_open: bool
) -> bytes:
    """Return what brings an answer under way to a proper end: OpenRouter's error, where it stands.

    Before its head that is a 503; behind it an error event, or an error in place of the JSON. A
    recorded answer that has begun and is no stream can only be broken off.

    Args:
        call: the request.
        plan: what was decided for it.
        created: unix second of its admission.
        frame: how the connection wants it.
        style: what is spoken.
        is_open: its head is sent.
    """
    error = envelope.STOPPING
    who = wire.identity(call.key, plan.draw, created, style)
    if not is_open:
        error = shapes.refusal(error, style, who.id)
        last = msgspec.structs.replace(frame, close=True)
        return last.whole(error.status, framing.JSON + error.fields, error.body)
    tape, is_stream = plan.tape, call.stream or "events" in plan.forms
    if tape is not None and (tape.length is not None or tape.status != 200 or not is_stream):
        return b""
    _, message = ERRORS[error.status]
    said = msgspec.structs.replace(
        plan,
        error=error.error,
        message=message,
        reply="",
        finish_reason="error",
        forms=() if is_stream else ("error_body",),
    )
    if not is_stream:
        return frame.piece(defects.body(who, call, said, 0.0)) + frame.end
    begun = b"" if tape is None else b"\n\n"  # recorded pieces need not end where events do
    return frame.piece(begun + b"".join(defects.stream(who, call, said, 0.0).tail)) + frame.end
