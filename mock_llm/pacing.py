"""When what is sent: a reply in pieces of about one token each."""

import re
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from mock_llm import wire
from mock_llm.plan import Plan

_PIECES = re.compile(r"\s*\w+|\s*[^\w\s]+|\s+")  # words and marks: about one a token


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
    return tuple([wire.encode(piece) for piece in _PIECES.findall(reply)])


def text_events(events: wire.Events, plan: Plan) -> Iterator[Write]:
    """The events of a stream that carry text, without framing, the reply cut in pieces.

    Tokens are evenly spaced. A piece leaves with its first token, so that the first text is there
    at `first_token_s` however pieces and tokens relate.
    """
    pieces = _encoded(plan.reply)
    tokens, first_s, span_s = (
        plan.completion_tokens,
        plan.first_token_s,
        plan.last_token_s - plan.first_token_s,
    )
    last = tokens - 1
    for index, piece in enumerate(pieces):
        token = index * tokens // len(pieces)
        at_s = first_s + span_s * token / max(last, 1)
        if token >= last > 0:
            at_s = plan.last_token_s  # to the digit, so that the end goes out with the last token
        yield Write(at_s, events.encoded(piece), token + 1)


def joined_events(events: wire.Events, plan: Plan) -> bytes:
    """The same of a stream without any delays, in one."""
    return b"".join([events.encoded(piece) for piece in _encoded(plan.reply)])
