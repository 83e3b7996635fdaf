"""A recorded answer as something to play: a head, and pieces of a body at their moments."""

from typing import Literal

import msgspec

TapeEnding = Literal["clean", "eof", "reset", "stall"]


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Bytes of a body that came together.

    Attributes:
        at_s: when, from admission.
        data: as they were received, without HTTP's framing.
        tokens: completion tokens delivered once they are out.
    """

    at_s: float
    data: bytes
    tokens: int = 0


class Tape(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan plays in place of an answer of the mock's own.

    Attributes:
        status: HTTP status; 0 when not even a head came.
        fields: header lines, each with its CRLF, framing not among them.
        length: the `Content-Length` it declared, which a broken body falls short of; None: chunks.
        headers_s: when the head came, from admission.
        pieces: of the body, in order.
        ending: how it ended; `stall` is silent for ever.
    """

    status: int
    fields: bytes = b""
    length: int | None = None
    headers_s: float = 0.0
    pieces: tuple[Piece, ...] = ()
    ending: TapeEnding = "clean"

    @property
    def end_s(self) -> float:
        """When its last byte came."""
        return self.pieces[-1].at_s if self.pieces else self.headers_s
