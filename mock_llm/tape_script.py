"""A tape as a script: its keep-alives are on it, so that no others are sent."""

from collections.abc import Iterator
from itertools import groupby

from msgspec.structs import replace

from mock_llm.framing import Framing
from mock_llm.pacing import Write
from mock_llm.playback import Script
from mock_llm.tape import Tape

_BODILESS = frozenset({204, 304})


def tape_script(tape: Tape, frame: Framing, *, whole: bool) -> Script:
    """Return everything a recorded answer sends.

    Args:
        tape: the recording.
        frame: how the connection wants it.
        whole: it comes to a proper end.
    """
    return Script(_joined(_writes(tape, frame, whole)))


def _joined(writes: Iterator[Write]) -> Iterator[Write]:
    for at_s, together in groupby(writes, key=lambda write: write.at_s):
        due = list(together)
        yield Write(at_s, b"".join([write.data for write in due]), due[-1].tokens)


def _writes(tape: Tape, frame: Framing, whole: bool) -> Iterator[Write]:
    chunked = tape.length is None and tape.status not in _BODILESS
    tokens = 0
    if tape.status:
        yield Write(tape.headers_s, _head(tape, frame, chunked))
    for piece in tape.pieces:
        tokens = piece.tokens
        yield Write(piece.at_s, frame.piece(piece.data) if chunked else piece.data, tokens)
    # Without an end there still is a moment at which it broke off.
    yield Write(tape.end_s, frame.end if chunked and whole and tape.status else b"", tokens)


def _head(tape: Tape, frame: Framing, chunked: bool) -> bytes:
    body = b"Transfer-Encoding: chunked\r\n" if chunked and frame.chunked else b""
    if tape.length is not None:
        body = b"Content-Length: %d\r\n" % tape.length
    return replace(frame, usual=b"").head(tape.status, tape.fields + body) + b"\r\n"
