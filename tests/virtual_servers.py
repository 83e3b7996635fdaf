"""Small servers on the virtual loop that the tests of it share."""

import asyncio
from collections.abc import Awaitable, Callable

import openai
from aiohttp import web

from harness.engines.virtual_loop import (
    VirtualLoop,
)

PORT = 8080
URL = f"http://127.0.0.1:{PORT}/api/v1"
COMPLETION = {
    "id": "gen-1",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "positive"},
        }
    ],
}
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def the_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def serve(handler: Handler, host: str = "127.0.0.1") -> VirtualLoop:
    """Route an aiohttp server on the running loop."""
    loop = the_loop()
    loop.route(host, PORT, web.Server(handler))
    return loop


async def answer(_: web.BaseRequest) -> web.StreamResponse:
    return web.json_response(COMPLETION)


async def hang(_: web.BaseRequest) -> web.StreamResponse:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def ask(client: openai.AsyncOpenAI) -> str | None:
    reply = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "good?"}]
    )
    return reply.choices[0].message.content
