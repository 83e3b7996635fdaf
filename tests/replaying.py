"""A provider, a recorder and a replay on the virtual clock, and made-up cassettes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
from msgspec.structs import replace
from recording import arrivals

from harness.engines.virtual_loop import VirtualLoop, run_virtual
from mock_llm.budget import Budget
from mock_llm.cassette import CassetteWriter, Chunk, Exchange, chunk, request_of
from mock_llm.config import Upstream
from mock_llm.record import Recorder
from mock_llm.server import MockServer

REAL, PROXY, PLAY = 8000, 8001, 8002
URL = "https://real.invalid/api/v1"
Arrived = tuple[int, list[tuple[float, bytes]], str]


def api(port: int) -> str:
    return f"http://127.0.0.1:{port}/api/v1"


def question(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": text}], **more}


def the_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def record_virtually(path: Path, upstream: Upstream, bodies: list[dict[str, Any]]) -> list[Arrived]:
    """Record questions to the mock one after the other; returns what the client saw."""

    async def main() -> list[Arrived]:
        real = MockServer(upstream, transit=False)
        recorder = Recorder(api(REAL), CassetteWriter(path, api(REAL)), Budget(), clock=str)
        the_loop().route("127.0.0.1", REAL, real.protocol_factory)
        the_loop().route("127.0.0.1", PROXY, recorder.protocol_factory)
        async with aiohttp.ClientSession() as session:
            seen = [await arrivals(session, api(PROXY), body) for body in bodies]
        await recorder.close()
        await real.close()
        return seen

    return run_virtual(main(), seed=1)


def play_virtually(
    upstream: Upstream, bodies: list[dict[str, Any]]
) -> tuple[list[Arrived], MockServer]:
    """Ask a mock one question after the other; returns what the client saw."""

    async def main() -> tuple[list[Arrived], MockServer]:
        server = MockServer(upstream, transit=False)
        the_loop().route("127.0.0.1", PLAY, server.protocol_factory)
        async with aiohttp.ClientSession() as session:
            seen = [await arrivals(session, api(PLAY), body) for body in bodies]
        await server.close()
        return seen, server

    return run_virtual(main(), seed=1)


def merged(arrived: Arrived) -> tuple[int, list[float], bytes, str]:
    """An answer with its times to the microsecond and its body in one."""
    status, pieces, ended = arrived
    return status, [round(at, 6) for at, _ in pieces], b"".join(d for _, d in pieces), ended


def cassette(path: Path, *exchanges: tuple[dict[str, Any], Exchange]) -> Path:
    """Write a cassette by hand: each question with what was answered."""
    writer = CassetteWriter(path, URL)
    for body, one in exchanges:
        request = request_of("POST", "/chat/completions", "", json.dumps(body).encode())
        writer.add(replace(one, request=request))
    writer.close()
    return path


def answered(text: str, at_s: float = 1.0, **more: Any) -> Exchange:
    """A whole answer with this text."""
    body = {"choices": [{"message": {"content": text}}], "usage": {"completion_tokens": 4}}
    data = json.dumps(body).encode()
    return exchange(
        [chunk(at_s, data)],
        **{"headers": [("content-type", "application/json")], "length": len(data), **more},
    )


def streamed(*times: float) -> Exchange:
    """A stream with a keep-alive, one event at each time, and its end with the last."""
    event = 'data: {"choices":[{"delta":{"content":"word "}}]}\n\n'
    chunks = [Chunk(times[0] / 2, ": OPENROUTER PROCESSING\n\n"), *(Chunk(t, event) for t in times)]
    last = 'data: {"choices":[],"usage":{"completion_tokens":4,"cost":0.5}}\n\ndata: [DONE]\n\n'
    headers = [("content-type", "text/event-stream")]
    return exchange([*chunks, Chunk(times[-1], last)], headers=headers, headers_s=0.1)


def exchange(chunks: list[Chunk], **more: Any) -> Exchange:
    request = request_of("POST", "", "", b"")
    at_s = chunks[-1].at_s if chunks else 0.0
    fields = {"status": 200, "ended": "complete", "total_s": at_s, "headers_s": at_s, **more}
    return Exchange(request=request, chunks=chunks, **fields)
