"""When what is sent: ticks of keep-alives, and a reply in pieces of about one token each."""

from collections.abc import Iterator
from itertools import count as counting

import msgspec

from mock_llm import wire
from mock_llm.plan import Plan


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


def text_events(events: wire.Events, plan: Plan) -> Iterator[Write]:
    """The events of a stream that carry text, without framing, the reply cut in pieces.

    Tokens are evenly spaced. A piece leaves with its first token, so that the first text is there
    at `first_token_s` however pieces and tokens relate.
    """
    pieces = wire.pieces(plan.reply)
    carried = events.calls or map(events.piece, pieces)  # lazily: an answer may have thousands
    count, tokens = len(events.calls or pieces), plan.completion_tokens
    if events.opening and count:
        yield Write(_token_s(plan, 0), events.opening)
    for index, event in enumerate(carried):
        token = index * tokens // count
        yield Write(_token_s(plan, token), event, token + 1)


def _token_s(plan: Plan, index: int) -> float:
    last = plan.completion_tokens - 1
    if index >= last > 0:
        return plan.last_token_s  # to the digit, so that the end goes out with the last token
    span_s = plan.last_token_s - plan.first_token_s
    return plan.first_token_s + span_s * index / max(last, 1)


def ticks(interval_s: float | None, until_s: float) -> Iterator[float]:
    """Multiples of the interval before `until_s`; multiplied, since sums would drift."""
    if interval_s is None:
        return
    for number in counting(1):
        if (at_s := number * interval_s) >= until_s:
            return
        yield at_s
