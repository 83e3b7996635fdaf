"""When what is sent: a reply in pieces of about one token each."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec

from mock_llm import wire
from mock_llm.plan import Plan


class Write(msgspec.Struct, frozen=True, gc=False):
    """Bytes due together.

    Attributes:
        at_s: when: after so much of the plan's time.
        data: raw bytes for the connection, framing included.
        tokens: completion tokens delivered once these bytes are out.
    """

    at_s: float
    data: bytes
    tokens: int = 0


@lru_cache(maxsize=64)
def _encoded(reply: str) -> tuple[bytes, ...]:
    """A reply's pieces as JSON; many requests have the same reply."""
    return tuple([wire.encode(piece) for piece in wire.pieces(reply)])


def text_events(events: wire.Events, plan: Plan) -> Iterator[Write]:
    """The events of a stream that carry text or calls; see `text_parts`."""
    for part in text_parts(events, plan):
        yield Write(*part)


def text_parts(events: wire.Events, plan: Plan) -> Iterator[tuple[float, bytes, int]]:
    """The same as plain tuples: when, what (without framing), tokens so far; a reply in pieces.

    Tokens are evenly spaced. A piece leaves with its first token, so that the first text is there
    at `first_token_s` however pieces and tokens relate.
    """
    count = len(events.calls or _encoded(plan.reply))
    tokens, first_s, span_s = (
        plan.completion_tokens,
        plan.first_token_s,
        plan.last_token_s - plan.first_token_s,
    )
    last = tokens - 1
    if events.opening and count:
        yield first_s, events.opening, 0
    for index, event in enumerate(_carried(events, plan)):
        token = index * tokens // count
        at_s = first_s + span_s * token / max(last, 1)
        if token >= last > 0:
            at_s = plan.last_token_s  # to the digit, so that the end goes out with the last token
        yield at_s, event, token + 1


def joined_events(events: wire.Events, plan: Plan) -> bytes:
    """The same of a stream without any delays, in one."""
    if events.calls:
        return events.opening + b"".join(events.calls)
    pieces = _encoded(plan.reply)
    if not pieces:
        return b""
    between = events.after + events.before
    return b"".join((events.opening, events.before, between.join(pieces), events.after))


def _carried(events: wire.Events, plan: Plan) -> Iterable[bytes]:
    """Events of text or of calls, lazily: an answer may have thousands."""
    return events.calls or map(events.encoded, _encoded(plan.reply))
