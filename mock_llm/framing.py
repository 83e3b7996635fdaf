"""HTTP/1.1 by hand: heads and chunks as bytes, so that a plan decides about every single one."""

from http import HTTPStatus

import msgspec

from mock_llm.wire import Identity

JSON = b"Content-Type: application/json\r\n"
TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"
EVENTS = b"Content-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
USUAL = b"Server: cloudflare\r\nAccess-Control-Allow-Origin: *\r\n"
_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def marks(who: Identity) -> bytes:
    """Header fields that tell one answer from another."""
    return f"CF-RAY: {who.ray}-AMS\r\nX-Generation-Id: {who.id}\r\n".encode()


def ray(who: Identity) -> bytes:
    """The field that even Cloudflare's own pages have."""
    return f"CF-RAY: {who.ray}-AMS\r\n".encode()


class Framing(msgspec.Struct, frozen=True):
    """How a body of unknown length is sent, and what becomes of the connection.

    Attributes:
        chunked: the client speaks HTTP/1.1; an older one is told the end by closing.
        close: the connection ends with this response.
        usual: header fields that every response has.
    """

    chunked: bool = True
    close: bool = False
    usual: bytes = USUAL

    def head(self, status: int, fields: bytes) -> bytes:
        """Status line and header fields; the blank line is not among them."""
        line = _LINES.get(status)
        if line is None:  # 520 to 529 are Cloudflare's and have no phrase
            line = b"HTTP/1.1 %d Unknown\r\n" % status
        return line + fields + self.usual + (b"Connection: close\r\n" if self.close else b"")

    def whole(self, status: int, fields: bytes, body: bytes) -> bytes:
        """A response whose length is known: head and body in one piece."""
        return b"%bContent-Length: %d\r\n\r\n%b" % (self.head(status, fields), len(body), body)

    def opening(self, fields: bytes) -> bytes:
        """Head of a 200 whose body comes in pieces."""
        return self.head(200, fields) + (
            b"Transfer-Encoding: chunked\r\n\r\n" if self.chunked else b"\r\n"
        )

    def piece(self, data: bytes) -> bytes:
        """A part of such a body."""
        return b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data

    @property
    def end(self) -> bytes:
        """What closes such a body."""
        return b"0\r\n\r\n" if self.chunked else b""
