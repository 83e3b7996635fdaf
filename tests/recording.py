"""A recorder on loopback, upstreams that play a script, and what the tests ask through them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from loopback import Client

from mock_llm.budget import Budget
from mock_llm.cassette import Cassette, CassetteWriter, Exchange, read_cassette
from mock_llm.config import Recordings, Upstream
from mock_llm.connection import Connection
from mock_llm.flight import Flight
from mock_llm.record import Recorder

KEY = "sk-or-v1-" + "0123456789abcdef" * 4
ANSWER = b'{"choices":[{"message":{"role":"assistant","content":"Fine."}}],"usage":{"cost":0.25}}'
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def reply(body: bytes, *fields: str, status: int = 200, length: int | None = None) -> bytes:
    """A response of known length, which may be a lie."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status} Whatever", *fields, f"Content-Length: {size}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(pieces: Sequence[bytes], *fields: str, end: bool = True) -> list[bytes]:
    """A response in chunks: its head, and each chunk."""
    top = "\r\n".join(["HTTP/1.1 200 OK", *fields, "Transfer-Encoding: chunked"]).encode()
    framed = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return [top + b"\r\n\r\n", *framed, *([b"0\r\n\r\n"] if end else [])]


def plays(*pieces: bytes, ending: str = "close") -> Script:
    """An upstream that writes these pieces, each once the one before was taken, and ends."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)  # so that they do not arrive as one
        if ending == "hang":
            await reader.read()
        elif ending == "reset":
            Connection.reset(_Reset(writer.transport))  # type: ignore[arg-type]

    return script


class _Reset:
    """Enough of a connection to be reset."""

    reset_on_close = Connection.reset_on_close

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport


@asynccontextmanager
async def scripted(script: Script, **options: Any) -> AsyncIterator[str]:
    """Run an upstream that plays a script; yields the address of its API."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    scheme = "https" if "ssl" in options else "http"
    try:
        yield f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}/api/v1"
    finally:
        server.close()


class Recording:
    """A running recorder and its cassette."""

    def __init__(self, path: Path, recorder: Recorder) -> None:
        self.path, self.recorder, self.port = path, recorder, 0
        self.clients: list[Client] = []
        self._ended = asyncio.Semaphore(0)
        keep = recorder._keep

        def watched(flight: Flight, now: float) -> None:
            keep(flight, now)
            self._ended.release()

        recorder._keep = watched  # type: ignore[method-assign]

    @property
    def url(self) -> str:
        """Its API."""
        return f"http://127.0.0.1:{self.port}/api/v1"

    async def client(self) -> Client:
        """Connect a new client."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def ended(self, count: int = 1) -> list[Exchange]:
        """The exchanges once there are so many."""
        while len(self.cassette().exchanges) < count:
            await self._ended.acquire()
        return self.cassette().exchanges

    def cassette(self) -> Cassette:
        """What is recorded by now."""
        return read_cassette(self.path)


@asynccontextmanager
async def recording(
    path: Path, upstream: str, budget: Budget | None = None, **options: Any
) -> AsyncIterator[Recording]:
    """Run a recorder; at the end it must leave no task behind."""
    recorder = Recorder(upstream, CassetteWriter(path, upstream), budget or Budget(), **options)
    running = Recording(path, recorder)
    running.port = await recorder.start()
    try:
        yield running
    finally:
        for client in running.clients:
            client.writer.close()
        await recorder.close()
        assert recorder._web is None or recorder._web.tasks == set()


def played(path: Path, **settings: Any) -> Upstream:
    """An upstream that plays a cassette."""
    return Upstream(cassette=Recordings(file=str(path), **settings))


async def arrivals(
    session: aiohttp.ClientSession, url: str, body: object
) -> tuple[int, list[tuple[float, bytes]], str]:
    """Status, every piece of the answer with its time from the sending, and how it ended."""
    loop = asyncio.get_running_loop()
    began, pieces = loop.time(), []
    headers = {"Authorization": f"Bearer {KEY}"}
    async with session.post(url + "/chat/completions", json=body, headers=headers) as answer:
        pieces.append((loop.time() - began, b""))
        try:
            while data := await answer.content.readany():
                pieces.append((loop.time() - began, data))
        except aiohttp.ClientError:
            return answer.status, pieces, "broken"
    return answer.status, pieces, "complete"
