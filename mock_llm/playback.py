"""A tape as timed writes."""

from collections.abc import Iterator
from http import HTTPStatus
from itertools import groupby

from mock_llm.framing import Framing
from mock_llm.pacing import Write
from mock_llm.tape import Tape

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_BODILESS = frozenset({204, 304})


def playback(tape: Tape, frame: Framing, *, whole: bool) -> Iterator[Write]:
    """Return everything a recorded answer sends, in order of time.

    Args:
        tape: the recording.
        frame: how the connection wants it.
        whole: it comes to a proper end.
    """
    for at_s, together in groupby(_writes(tape, frame, whole), key=lambda write: write.at_s):
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
    yield Write(tape.end_s, frame.end if chunked and whole and tape.status else b"", tokens)


def _head(tape: Tape, frame: Framing, chunked: bool) -> bytes:
    line = f"HTTP/1.1 {tape.status} {_PHRASES.get(tape.status, 'Unknown')}\r\n".encode()
    body = b"Transfer-Encoding: chunked\r\n" if chunked and frame.chunked else b""
    if tape.length is not None:
        body = b"Content-Length: %d\r\n" % tape.length
    return line + tape.fields + body + (b"Connection: close\r\n" if frame.close else b"") + b"\r\n"
