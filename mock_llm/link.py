"""Messages between the hub and its workers, over a socket pair.

Theory of operation. A frame is its length in four bytes and a msgpack array: the number of a
question (0 for a notice, which has no answer), a name, a body. An answer has its question's number
and no name. All that one turn of the event loop sends goes out in one write, so under load many
questions share a system call. Frames arrive in the order in which they were sent.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import msgspec

Handler = Callable[[msgspec.Raw], object]
"""Takes the body of a frame, returns the answer or an awaitable of it."""

_LENGTH_BYTES = 4
_FAILED = "!"
_encode = msgspec.msgpack.Encoder().encode


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """One message; the body is decoded by whoever knows what it is."""

    number: int
    name: str
    body: msgspec.Raw


_decode = msgspec.msgpack.Decoder(Frame).decode


class LinkError(Exception):
    """The other end could not answer; the text says why."""


class Link(asyncio.Protocol):
    """One end of the pair.

    Args:
        handlers: what the other end may ask, by name.

    Attributes:
        closed: done when the other end is gone.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._asked: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._last = 0
        self._out: list[bytes] = []
        self._in = bytearray()
        self._wanted = _LENGTH_BYTES
        self._answering: set[asyncio.Future[object]] = set()
        self.closed: asyncio.Future[None] = self._loop.create_future()

    async def connect(self, end: socket.socket) -> None:
        """Begin, with this end of a socket pair."""
        await self._loop.create_unix_connection(lambda: self, sock=end)

    def ask(self, name: str, message: object = None) -> "asyncio.Future[msgspec.Raw]":
        """Send a question; the future is its answer's body.

        It is cancelled when the other end is gone, and so are the attempts that wait for it.

        Raises:
            LinkError: (the future) the other end could not answer.
        """
        self._last += 1
        answer = self._asked[self._last] = self._loop.create_future()
        if self.closed.done():
            answer.cancel()
        else:
            self._send(self._last, name, message)
        return answer

    def tell(self, name: str, message: object = None) -> None:
        """Send a notice."""
        self._send(0, name, message)

    def close(self) -> None:
        """End the connection; what was sent goes out first."""
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where to write, and write what is waiting for it."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell everybody who waits for an answer."""
        self.closed.set_result(None)
        for answer in self._asked.values():
            answer.cancel()

    def data_received(self, data: bytes) -> None:
        """Handle every frame that is complete."""
        self._in += data
        if len(self._in) < self._wanted:
            return
        held, at = bytes(self._in), 0
        while True:
            body = at + _LENGTH_BYTES
            end = body + int.from_bytes(held[at:body], "big")
            if body > len(held) or end > len(held):
                break
            self._receive(_decode(held[body:end]))
            at = end
        self._in = bytearray(held[at:])
        self._wanted = max(end - at, _LENGTH_BYTES) if body <= len(held) else _LENGTH_BYTES

    def _receive(self, frame: Frame) -> None:
        if frame.name in {"", _FAILED}:
            answer = self._asked.pop(frame.number)
            if answer.done():
                return
            if not frame.name:
                answer.set_result(frame.body)
            else:
                answer.set_exception(LinkError(msgspec.msgpack.decode(frame.body, type=str)))
            return
        try:
            found = self._handlers[frame.name](frame.body)
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            self._fail(frame, error)
            return
        if isinstance(found, Awaitable):
            task = asyncio.ensure_future(found)
            self._answering.add(task)
            task.add_done_callback(lambda done: self._answer(frame, done))
        elif frame.number:
            self._send(frame.number, "", found)

    def _answer(self, frame: Frame, done: "asyncio.Future[object]") -> None:
        self._answering.discard(done)
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            self._fail(frame, error)
        elif frame.number:
            self._send(frame.number, "", done.result())

    def _fail(self, frame: Frame, error: BaseException) -> None:
        self._loop.call_exception_handler({"message": f"in {frame.name}", "exception": error})
        if frame.number:
            self._send(frame.number, _FAILED, f"{frame.name}: {error!r}")

    def _send(self, number: int, name: str, message: object) -> None:
        frame = _encode((number, name, message))
        if not self._out and self._transport is not None:
            self._loop.call_soon(self._flush)
        self._out += (len(frame).to_bytes(_LENGTH_BYTES, "big"), frame)

    def _flush(self) -> None:
        if self._out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out = []
