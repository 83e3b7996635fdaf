"""Hostile clients against a mock on loopback, and what must hold of it whatever they send."""

import asyncio
import gc
import json
import logging
import socket
import struct
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from loopback import QUICK, head

from mock_llm.connection import Connection
from mock_llm.server import MockServer

BOUND_S = 30.0  # an answer that takes longer is none
SLOW_CLIENT_S = 0.05  # what the mock allows a request to take on its way in
TURNS = 5  # of the loop, for the mock to see one packet before the next
LAST = head("GET", "/api/v1/models", {"Connection": "close"})
ALLOWED = {100, 200, 400, 401, 404, 405, 408, 413}


class Conversation(NamedTuple):
    """What one client does on one connection.

    Attributes:
        pieces: what it sends, in so many packets.
        then: `finish` sends a good last request and reads until the mock hangs up, so that a
            request which gets neither an answer nor an end is seen; the others just go.
        requests: that the pieces are made of.
    """

    pieces: tuple[bytes, ...]
    then: Literal["finish", "leave", "reset"] = "finish"
    requests: int = 1


class Response(NamedTuple):
    """One answer as it came."""

    status: int
    head: str
    body: bytes


class _Complaints(logging.Handler):
    """Everything that anybody logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class Target:
    """A mock under fire; at the end nothing of it is left, and it has complained of nothing."""

    def __init__(self, slow_client_s: float = SLOW_CLIENT_S) -> None:
        self._runner = asyncio.Runner()
        self._patience_s = 4 * slow_client_s
        self._server = MockServer(QUICK, header_timeout_s=slow_client_s)
        self._log = _Complaints()

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self._log)
        loop = self._runner.get_loop()
        loop.set_exception_handler(lambda _, context: self._log.lines.append(repr(context)))
        self._port = self._runner.run(self._server.start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._runner.run(self._server.close())
        self._runner.close()
        logging.getLogger().removeHandler(self._log)

    def fire(self, conversation: Conversation) -> list[Response]:
        """Have a conversation; the answers, none where the client has gone."""
        found = responses(self._runner.run(asyncio.wait_for(self._one(conversation), BOUND_S)))
        check_answers(found)
        assert self._log.lines == []
        return found

    async def _one(self, conversation: Conversation) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        heard = bytearray()
        try:
            for piece in conversation.pieces:
                await _say(writer, piece, last=len(conversation.pieces) == 1)
            if conversation.then == "finish":
                await _say(writer, LAST)
                try:
                    await _listen(reader, heard, self._patience_s)
                except TimeoutError:
                    # Where that ended a body, what was left of it has begun a head: one more packet
                    # sets the mock's clock going. Without it the connection is an idle one.
                    await _say(writer, LAST)
                    await _listen(reader, heard, None)
        except ConnectionError:  # the mock hung up while there was more to say
            heard += bytes(reader._buffer)  # type: ignore[attr-defined]
        finally:
            if conversation.then == "reset" and not writer.is_closing():
                raw: socket.socket = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            writer.close()
        return bytes(heard)

    def settled(self) -> list[str]:
        """What is left of all the clients once they have gone: nothing but the listener."""
        return self._runner.run(self._settled())

    async def _settled(self) -> list[str]:
        web = self._server._web
        async with asyncio.timeout(BOUND_S):
            while web is not None and web.connections:  # noqa: ASYNC110 - it has no such event
                await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()
        left: list[Any] = [one for one in gc.get_objects() if isinstance(one, Connection)]
        left += asyncio.all_tasks() - {asyncio.current_task()}
        return [repr(one) for one in left] + self._log.lines


async def _say(writer: asyncio.StreamWriter, piece: bytes, *, last: bool = True) -> None:
    writer.write(piece)
    await writer.drain()
    if not last:
        for _ in range(TURNS):
            await asyncio.sleep(0)


async def _listen(reader: asyncio.StreamReader, heard: bytearray, limit_s: float | None) -> None:
    async with asyncio.timeout(limit_s):
        while data := await reader.read(2**16):
            heard += data


def responses(data: bytes) -> list[Response]:
    """Cut what was heard into answers; only the last may be cut short by a connection's end."""
    found: list[Response] = []
    while data:
        top, _, rest = data.partition(b"\r\n\r\n")
        said = top.decode("latin-1")
        assert said.startswith("HTTP/1.1 "), data[:200]
        status = int(said.split()[1])
        if status == 100:
            body, data = b"", rest
        elif "Transfer-Encoding: chunked" in said:
            body, end, data = rest.partition(b"0\r\n\r\n")
            assert end
        else:
            size = int(said.partition("Content-Length: ")[2].split()[0])
            body, data = rest[:size], rest[size:]
        found.append(Response(status, said, body))
    return found


def check_answers(found: Iterable[Response]) -> None:
    """No answer is a server's error, and every error is in OpenRouter's envelope."""
    for one in found:
        assert one.status in ALLOWED, one
        assert "python" not in one.head.lower(), one
        if one.status >= 400:
            error = json.loads(one.body)["error"]
            assert (error["code"], set(error["metadata"])) == (one.status, {"error_type"})
