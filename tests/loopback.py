"""The mock on loopback and a client that speaks bytes: what the tests of the server share."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

from mock_llm.behaviour import Provider
from mock_llm.config import Profile, Upstream
from mock_llm.connection import Connection
from mock_llm.faults import Fault, HangBeforeHeaders
from mock_llm.ledger import Row
from mock_llm.plan import Call, Plan
from mock_llm.server import MockServer

QUICK = Upstream(profile=Profile(ttft=0.0))
HANGING: dict[str, Fault] = {"silence": HangBeforeHeaders(rate=1.0)}
PATH = "/api/v1/chat/completions"
QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "A great book, I loved it."}]}


def head(
    method: str = "POST", path: str = PATH, fields: Mapping[str, str] | None = None, size: int = 0
) -> bytes:
    sent = {"Host": "mock", "Authorization": "Bearer key-1", **(fields or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items() if value)
    return f"{method} {path} HTTP/1.1\r\n{lines}Content-Length: {size}\r\n\r\n".encode()


def post(body: object = QUESTION, **fields: str) -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return head(fields=named, size=len(raw)) + raw


class Client:
    """One connection of a client that writes and reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, request: bytes) -> tuple[int, str, bytes]:
        """Status, head and body of the answer to a request; a chunked body stays framed."""
        self.writer.write(request)
        top = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        if "Transfer-Encoding: chunked" in top:
            body = await self.reader.readuntil(b"\r\n0\r\n\r\n")
        else:
            size = int(top.partition("Content-Length: ")[2].partition("\r\n")[0])
            body = await self.reader.readexactly(size)
        return int(top.split()[1]), top, body

    async def error(self, request: bytes) -> tuple[int, str, str]:
        """Status, error type and message of a refusal, whose code must be its status."""
        status, _, body = await self.ask(request)
        error = json.loads(body)["error"]
        assert error["code"] == status
        return status, error["metadata"]["error_type"], error["message"]

    async def leave(self) -> None:
        """Close the connection."""
        self.writer.close()
        await self.writer.wait_closed()


class Mock:
    """A running server and its clients."""

    def __init__(self, server: MockServer) -> None:
        self.server, self.port = server, 0
        self.clients: list[Client] = []
        self.admitted = asyncio.Semaphore(0)
        self._ended = asyncio.Semaphore(0)
        provider, ledger = server._player._provider, server.ledger
        assert isinstance(provider, Provider)
        self.provider = provider
        admit, add = provider.admit, ledger.add

        def watched_admit(call: Call, now: float) -> Plan:
            self.admitted.release()
            return admit(call, now)

        def watched_add(row: Row) -> None:
            self._ended.release()
            add(row)

        provider.admit, ledger.add = watched_admit, watched_add  # type: ignore[method-assign]

    async def client(self) -> Client:
        """Connect a new client."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    def links(self) -> list[Connection]:
        """Return the server's ends of its connections."""
        assert self.server._web is not None
        return [link for link in self.server._web.connections if isinstance(link, Connection)]

    async def rows(self, count: int) -> list[Row]:
        """The ledger's rows once there are so many."""
        while len(self.server.ledger.rows) < count:
            await self._ended.acquire()
        return list(self.server.ledger.rows)


@asynccontextmanager
async def mock(upstream: Upstream = QUICK, **options: Any) -> AsyncIterator[Mock]:
    """Run a server; at the end it must leave no task behind."""
    server = MockServer(upstream, **options)
    before = asyncio.all_tasks()
    running = Mock(server)
    running.port = await server.start()
    try:
        yield running
    finally:
        await server.close()
        assert asyncio.all_tasks() == before
        for client in running.clients:
            client.writer.close()


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))
