"""When what is sent: a reply in pieces of about one token each."""

import re
from collections.abc import Iterator

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


def text_events(events: wire.Events, plan: Plan) -> Iterator[Write]:
    """The events of a stream that carry text, without framing, the reply cut in pieces.

    Tokens are evenly spaced. A piece leaves with its first token, so that the first text is there
    at `first_token_s` however pieces and tokens relate.
    """
    pieces = _PIECES.findall(plan.reply)
    tokens = plan.completion_tokens
    for index, piece in enumerate(pieces):
        token = index * tokens // len(pieces)
        yield Write(_token_s(plan, token), events.piece(piece), token + 1)


def _token_s(plan: Plan, index: int) -> float:
    last = plan.completion_tokens - 1
    if index >= last > 0:
        return plan.last_token_s  # to the digit, so that the end goes out with the last token
    span_s = plan.last_token_s - plan.first_token_s
    return plan.first_token_s + span_s * index / max(last, 1)
