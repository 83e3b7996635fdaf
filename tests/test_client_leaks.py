"""Ten thousand calls that go wrong in every way there is: nothing is left of them."""

import asyncio
import itertools
import json
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, get_args

import pytest
from jobs import BY_NAME
from loopback import QUESTION

from harness.engines.virtual import routed
from harness.engines.virtual_loop import VirtualLoop, run_virtual
from harness.engines.virtual_net import Wire
from harness.pipeline.client import CallError, ChatClient, Stamps, Statistics
from harness.scenario.pipeline import Pipeline
from mock_llm.config import Profile, Upstream
from mock_llm.faults import Fault
from mock_llm.server import MockServer

CALLS = 10_000
AT_ONCE = 50
LIMIT_S = 1.0
KINDS: tuple[type[Fault], ...] = get_args(Fault)
BODIES = tuple(
    json.dumps({**QUESTION, "model": "openai/gpt-4o-mini", "stream": stream}).encode()
    for stream in (False, True)
)
SETTINGS = tuple(
    Pipeline(pool=pool, stream=stream, stall_s=0.4 if stream else None, max_answer_bytes=4096)
    for pool, stream in itertools.product((True, False), (False, True))
)


WORDS = {"", "attempt_timeout", "cancelled", "stalled", "too_large", "truncated", "disconnected"}
WORDS |= {"dns_failure", "http_402", "http_429", "missing_done", "not_utf8", "sse_for_json"}


def upstream() -> Upstream:
    """Every fault there is, each as often as the others; not a call goes well for sure."""
    rate = 1 / len(KINDS)
    faults = {kind.__name__: kind(rate=rate) for kind in KINDS}
    return Upstream(profile=Profile(ttft=0.2), faults=faults, keep_alive_s=0.4)


async def one(client: ChatClient, number: int) -> str:
    """A call within a time limit; every seventh is cancelled somewhere on its way."""
    body = BODIES[client._settings.stream]
    calling = asyncio.ensure_future(client.call(body, f"r{number}", 1, Stamps()))
    if number % 7 == 0:
        asyncio.get_running_loop().call_later(number % 70 / 100, calling.cancel)
    try:
        async with asyncio.timeout(LIMIT_S):
            await calling
    except CallError as error:
        return error.word
    except TimeoutError:
        return "attempt_timeout"
    except asyncio.CancelledError:
        return "cancelled"
    return ""


async def worker(client: ChatClient, numbers: Iterator[int], words: Counter[str]) -> None:
    for number in numbers:
        words[await one(client, number)] += 1


class Left(NamedTuple):
    """What is there at one moment: of the clients, of the mock, of the network between them."""

    clients: list[Statistics]
    tasks: int
    at_mock: int
    in_flight: int
    sockets: int


def left(clients: list[ChatClient], server: MockServer, sockets: Iterable[Wire]) -> Left:
    """Count; the mock has a task for each connection, which is no leak."""
    at_mock = server.open_connections
    return Left(
        [client.statistics() for client in clients],
        len(asyncio.all_tasks()) - 1 - at_mock,
        at_mock,
        server.ledger.in_flight,
        sum(sock.fileno() != -1 for sock in sockets),
    )


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> weakref.WeakSet[Wire]:
    """Every end of a connection on the virtual network that anybody still holds."""
    made: weakref.WeakSet[Wire] = weakref.WeakSet()
    make = Wire.__init__

    def noted(wire: Wire, *args: Any) -> None:
        make(wire, *args)
        made.add(wire)

    monkeypatch.setattr(Wire, "__init__", noted)
    return made


def test_ten_thousand_calls_leave_nothing(sockets: weakref.WeakSet[Wire]) -> None:
    """No task, socket or connection outlives its call, though all faults strike and many leave."""
    server = MockServer(upstream(), ledger_limit=10)
    words: Counter[str] = Counter()

    async def main() -> tuple[Left, Left]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        routed(server, loop)
        numbers = iter(range(CALLS))
        async with AsyncExitStack() as stack:
            made = [ChatClient(settings, BY_NAME, "key-1") for settings in SETTINGS]
            clients = [await stack.enter_async_context(client) for client in made]
            async with asyncio.TaskGroup() as group:
                for client in clients * (AT_ONCE // len(clients)):
                    group.create_task(worker(client, numbers, words))
            before = left(clients, server, sockets)
        await asyncio.sleep(200.0)  # the mock goes on with what it was asked, as providers do
        after = left(clients, server, sockets)
        await server.close()
        return before, after

    before, after = run_virtual(main())
    idle = sum(client.open for client in before.clients)
    assert [client[1:3] + client[4:] for client in before.clients] == [(0, 0, 0)] * len(SETTINGS)
    assert [client.open for client in before.clients[2:]] == [0, 0]  # those without a pool
    assert (before.tasks >= 0, before.sockets >= 2 * idle > 0) == (True, True)
    assert [client.open for client in after.clients] == [0] * len(SETTINGS)
    assert after[1:] == (0, 0, 0, 0)
    assert sum(words.values()) == CALLS
    assert words.keys() >= WORDS
    fired = server.ledger.gauges.total().faults
    assert {kind.__name__ for kind in KINDS} - {"IdleRace", "DnsFailure"} <= set(fired)
