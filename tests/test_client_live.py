"""The fault catalogue once over real sockets, with TLS and without: the names are the same."""

import asyncio
import gc
import json
from pathlib import Path

import pytest
from loopback import QUESTION
from papers import Papers
from test_fault_client import VERDICTS

from harness.pipeline.client import CallError, ChatClient, Stamps
from harness.scenario.pipeline import Pipeline
from mock_llm.config import Profile, Upstream
from mock_llm.door import server_context
from mock_llm.faults import ConnectionReset, DnsFailure, Fault
from mock_llm.server import MockServer

LIMIT_S = 5.0
BODIES = [
    json.dumps({**QUESTION, "model": "openai/gpt-4o-mini", "stream": stream}).encode()
    for stream in (False, True)
]
CASES = [
    (fault, stream, verdicts[stream])
    for fault, *verdicts in VERDICTS
    for stream in (False, True)
    if not isinstance(fault, DnsFailure)  # no server can do that to its client
]
# A real network tells a reset from a hang-up, and the kernel may drop what came before it.
RESET = {"disconnected", "connection_error", "truncated"}


async def met(fault: Fault, stream: bool, papers: Papers | None) -> str:
    """The word for a fault, met by a client of its own."""
    server = MockServer(Upstream(profile=Profile(ttft=0.05), faults={"fault": fault}))
    tls = server_context(papers.cert, papers.key) if papers else None
    port = await server.start(ssl=tls)
    url = f"{'https' if papers else 'http'}://127.0.0.1:{port}/api/v1"
    ca_file = papers.ca if papers else None
    try:
        async with ChatClient(Pipeline(stream=stream), url, "key-1", ca_file) as client:
            async with asyncio.timeout(LIMIT_S):
                await client.call(BODIES[stream], "r1", 1, Stamps())
            return ""
    except TimeoutError:
        return "attempt_timeout"
    except CallError as error:
        return error.word
    finally:
        statistics = client.statistics()
        await server.close()
        assert statistics[:3] == (0, 0, 0)


@pytest.mark.parametrize("secure", [False, True])
def test_catalogue_over_real_sockets(tmp_path: Path, secure: bool) -> None:
    """Each fault ends in bounded time under its name, and leaves neither task nor connection."""
    papers = Papers(tmp_path) if secure else None

    async def test() -> list[str]:
        before = asyncio.all_tasks()
        words = await asyncio.gather(*(met(fault, stream, papers) for fault, stream, _ in CASES))
        assert asyncio.all_tasks() == before
        return words

    words = asyncio.run(asyncio.wait_for(test(), 60))
    gc.collect()  # what was forgotten unclosed makes itself heard
    for (fault, stream, (word, at_s)), found in zip(CASES, words, strict=True):
        expected = "attempt_timeout" if at_s > LIMIT_S else word
        resets = isinstance(fault, ConnectionReset)
        assert found in (RESET if resets else {expected}), f"{fault}, stream: {stream}"
