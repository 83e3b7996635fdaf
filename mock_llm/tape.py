"""A recorded answer as something to play: a head, and pieces of a body at their moments."""

import msgspec


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
    """What a plan plays in place of an answer of the mock's own; the plan says how it ends.

    Attributes:
        status: HTTP status; 0 when not even a head came.
        fields: header lines, each with its CRLF, framing not among them.
        length: the `Content-Length` it declared, which a broken body falls short of; None: chunks.
        headers_s: when the head came, from admission.
        pieces: of the body, in order.
        end_s: when it was over.
    """

    status: int
    fields: bytes = b""
    length: int | None = None
    headers_s: float = 0.0
    pieces: tuple[Piece, ...] = ()
    end_s: float = 0.0
