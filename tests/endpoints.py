"""Endpoints made for one misbehaviour each, and the client that meets them, on either clock."""

import asyncio
import gc
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple, TypeVar

from aiohttp import web

from harness.engines.virtual_loop import VirtualLoop, run_virtual
from harness.pipeline.answer import Answer
from harness.pipeline.client import CallError, ChatClient, Stamps
from harness.scenario.pipeline import Pipeline

T = TypeVar("T")
Clock = Literal["virtual", "wall"]
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

HOST, PORT = "127.0.0.1", 8000
PLAIN, STREAMED = Pipeline(), Pipeline(stream=True)
TEXT = '{"label":"positive","confidence":0.93}'
USAGE = {
    "prompt_tokens": 550,
    "completion_tokens": 15,
    "cost": 0.001,
    "prompt_tokens_details": {"cached_tokens": 512},
}
ANSWER = Answer(
    text=TEXT,
    label="positive",
    prompt_tokens=550,
    cached_tokens=512,
    completion_tokens=15,
    cost_usd=0.001,
)


def completion(content: str | None = TEXT, finish: str | None = "stop", **more: Any) -> bytes:
    """A non-stream body in OpenRouter's shape."""
    choice = {"index": 0, "finish_reason": finish, "message": {"content": content}}
    return json.dumps({"choices": [choice], "usage": USAGE} | more).encode()


def event(content: str = "", finish: str | None = None, **more: Any) -> bytes:
    """One chunk of a stream."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


COMMENT = b": OPENROUTER PROCESSING\n\n"
DONE = b"data: [DONE]\n\n"
STREAM = (COMMENT, event(TEXT[:10]), event(TEXT[10:]), event(finish="stop", usage=USAGE), DONE)


def replies(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Handler:
    """An endpoint that answers at once."""

    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return handler


def plays(*pieces: bytes | float) -> Handler:
    """An endpoint that sends pieces of a 200's body, a number being seconds of silence."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            if isinstance(piece, bytes):
                await response.write(piece)
            else:
                await asyncio.sleep(piece)
        return response

    return handler


def breaks(data: bytes, *, reset: bool = False) -> Handler:
    """An endpoint that sends raw bytes and hangs up, or resets the connection."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        transport.write(data)
        if reset:
            # Lingering for no time at all makes TCP send a reset; other sockets just hang up.
            sock: socket.socket = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        transport.close()
        return web.Response()

    return handler


class Endpoint(web.Server):
    """A server that knows its clients; aiohttp's own list outlives them by a little."""

    def __init__(self, handler: Handler) -> None:
        super().__init__(handler, handler_cancellation=True)
        self.clients: set[web.RequestHandler] = set()
        self._lost = asyncio.Event()

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Note a client."""
        super().connection_made(handler, transport)
        self.clients.add(handler)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Forget a client."""
        super().connection_lost(handler, exc)
        self.clients.discard(handler)
        self._lost.set()

    async def deserted(self) -> None:
        """Wait until no client is connected."""
        while self.clients:
            self._lost.clear()
            await self._lost.wait()


@asynccontextmanager
async def endpoint(handler: Handler) -> AsyncIterator[str]:
    """Serve on the running loop; whoever called must have left neither connection nor task."""
    before = asyncio.all_tasks()
    server = Endpoint(handler)
    loop = asyncio.get_running_loop()
    port, listener = PORT, None
    if isinstance(loop, VirtualLoop):
        loop.route(HOST, PORT, server)
    else:
        listener = await loop.create_server(server, HOST, 0)
        port = listener.sockets[0].getsockname()[1]
    yield f"http://{HOST}:{port}/api/v1"
    async with asyncio.timeout(10):
        await server.deserted()
    if listener:
        listener.close()
    await server.shutdown()
    await _hushed(asyncio.all_tasks() - before)
    assert asyncio.all_tasks() == before


async def _hushed(tasks: set[asyncio.Task[Any]]) -> None:
    """Wait for the server's own tasks, one for each connection, which it cancels and forgets."""
    own = [task for task in tasks if getattr(task.get_coro(), "__name__", "") == "start"]
    await asyncio.gather(*own, return_exceptions=True)


class Called(NamedTuple):
    """What a call gave, and when."""

    answer: Answer | None
    error: CallError | None
    stamps: Stamps

    @property
    def word(self) -> str:
        """The record's error word, "" for an answer."""
        return self.error.word if self.error else ""


async def call(client: ChatClient, key: str = "r1") -> Called:
    """One call, with its error as a value."""
    stamps = Stamps()
    try:
        return Called(await client.call(b"{}", key, 1, stamps), None, stamps)
    except CallError as error:
        return Called(None, error, stamps)


async def ask(handler: Handler, settings: Pipeline) -> Called:
    """Start an endpoint, call it once, stop it."""
    async with endpoint(handler) as url, ChatClient(settings, url, "sk-or-v1-test") as client:
        return await call(client)


def run(clock: Clock, main: Coroutine[Any, Any, T]) -> T:
    """Run on this clock; what was forgotten unclosed makes itself heard before the test ends."""
    try:
        return run_virtual(main) if clock == "virtual" else asyncio.run(main)
    finally:
        gc.collect(1)
