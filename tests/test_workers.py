"""Several workers serve one mock: the weather, the limits and the rows are those of one process."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Sequence
from pathlib import Path

import msgspec
import pytest
from loopback import QUICK, Client, post, run
from served import Workers, workers

from mock_llm.config import Profile, Throttle, Upstream
from mock_llm.control.commands import Look
from mock_llm.faults import EmptyContent, ServerError, TlsStall
from mock_llm.ledger import Row

STORMY = Upstream(
    profile=Profile(ttft=0.0),
    faults={
        "sick": ServerError(rate=0.4, status=503),
        "dumb": EmptyContent(rate=0.3),
        "late": ServerError(rate=1, status=502, from_s=1e6),
    },
)
Said = tuple[str, int, object]


async def said(client: Client, key: str) -> Said:
    """What one attempt says, but for the second in which it is said."""
    status, _, raw = await client.ask(post(X_Request_Key=key))
    body = json.loads(raw)
    body.pop("created", None)
    if name := body.get("id"):
        body["id"] = name.rpartition("-")[2]
    return key, status, body


async def storm(clients: Sequence[Client]) -> list[Said]:
    """Ten attempts each at ten requests, every one on another connection than the last."""
    return [
        await said(clients[(turn * 3 + number) % len(clients)], f"r{number}")
        for turn in range(10)
        for number in range(10)
    ]


def served(count: int) -> tuple[list[Said], list[int]]:
    """The storm as so many workers serve it, and how much each of them had to do."""
    found: list[tuple[list[Said], list[int]]] = []

    async def test() -> None:
        async with workers(STORMY, count, seed=5) as mock:
            everything = await storm(await mock.clients(16))
            found.append((everything, await mock.attempts()))

    run(test())
    return found[0]


def test_weather_is_the_same_however_many_serve() -> None:
    """Requests whose retries meet other workers are answered word for word as by one process."""
    one, two = served(1), served(2)
    assert two[0] == one[0]
    assert sum(two[1]) == sum(one[1]) == 100
    assert min(two[1]) > 0
    assert {status for _, status, _ in one[0]} == {200, 503}


def test_the_throttle_counts_all_workers(tmp_path: Path) -> None:
    """Of 400 attempts over both workers 100 pass, and the others are told their true wait."""
    limited = msgspec.structs.replace(QUICK, throttle=Throttle(requests_per_min=100))
    ledger = tmp_path / "ledger.jsonl"

    async def greedy(client: Client, number: int) -> list[tuple[str, int, bytes]]:
        asked = []
        for turn in range(25):
            status, _, body = await client.ask(post(X_Request_Key=f"{number}-{turn}"))
            asked.append((f"{number}-{turn}", status, body))
        return asked

    async def test() -> None:
        async with workers(limited, ledger_file=str(ledger)) as mock:
            clients = await mock.clients(16)
            parts = await asyncio.gather(*(greedy(one, n) for n, one in enumerate(clients)))
            assert min(await mock.attempts()) > 0
        asked = [one for part in parts for one in part]
        rows = {row.key: row for row in read(ledger)}
        at_s = {key: row.admitted_s or 0.0 for key, row in rows.items()}
        assert sorted(status for _, status, _ in asked) == [200] * 100 + [429] * 300
        free_s = min(at_s[key] for key, status, _ in asked if status == 200) + 60
        for key, status, body in asked:
            if status == 429:
                wait_s = json.loads(body)["error"]["metadata"]["retry_after_seconds_raw"]
                # The hub's moment is no earlier than the worker's, and no later than the last.
                assert free_s - max(at_s.values()) - 1e-6 <= wait_s <= free_s - at_s[key] + 1e-6

    run(test())


def read(ledger: Path) -> list[Row]:
    return [msgspec.json.decode(line, type=Row) for line in ledger.read_bytes().splitlines()]


def test_rows_of_all_workers_are_whole(tmp_path: Path) -> None:
    """Every row of a file that two workers write at once is a line of its own."""
    ledger = tmp_path / "ledger.jsonl"

    async def ask(client: Client, number: int) -> None:
        for turn in range(100):
            await client.ask(post(X_Request_Key=f"{number}-{turn}", X_Attempt="x" * 2000))

    async def test() -> None:
        async with workers(ledger_file=str(ledger), transit=False) as mock:
            clients = await mock.clients(16)
            await asyncio.gather(*(ask(client, number) for number, client in enumerate(clients)))

    run(test())
    keys = sorted(row.key for row in read(ledger))
    assert keys == sorted(f"{number}-{turn}" for number in range(16) for turn in range(100))


def test_a_change_is_in_force_everywhere_at_once() -> None:
    """When a change returns, every connection meets the new upstream, whichever worker has it."""
    sick = msgspec.structs.replace(QUICK, faults={"sick": ServerError(rate=1, status=503)})

    async def test() -> None:
        async with workers() as mock:
            clients = await mock.clients(12)
            statuses = [(await client.ask(post()))[0] for client in clients]
            await mock.hub.change(sick)
            statuses += [(await client.ask(post()))[0] for client in clients]
            assert statuses == [200] * 12 + [503] * 12
            assert min(await mock.attempts()) > 0

    run(test())


def test_connections_are_numbered_over_all_workers() -> None:
    """A stall of the first two connections strikes two of twelve, whoever accepts them."""
    stalling = msgspec.structs.replace(QUICK, faults={"s": TlsStall(rate=1, first_n=2)})

    async def test() -> None:
        async with workers(stalling) as mock:
            clients = await mock.clients(12)
            asked = {asyncio.create_task(client.ask(post())) for client in clients}
            answered = 0
            while answered < 10:
                done, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                answered += len(done)
            assert (answered, len(asked)) == (10, 2)
            assert min(await mock.attempts()) > 0
        await asyncio.wait(asked)
        assert all(one.exception() for one in asked)

    run(test())


def test_a_worker_can_ask_all() -> None:
    """What one asks of all through the hub, every worker answers, itself included."""

    async def test() -> None:
        async with workers() as mock:
            for client in await mock.clients(8):
                await client.ask(post())
            command = mock.hub._handlers["command"]
            asked = command(msgspec.Raw(msgspec.msgpack.encode(Look())))
            assert isinstance(asked, Awaitable)
            seen = (await asked).snapshot
            assert (seen.workers, seen.total.attempts) == (2, 8)
            assert sum(await mock.attempts()) == 8

    run(test())


def test_a_worker_that_dies_is_started_again(capfd: pytest.CaptureFixture[str]) -> None:
    """Its successor has the counts and the upstream of that moment, and stderr names it."""
    sick = msgspec.structs.replace(STORMY, faults={"sick": ServerError(rate=0.5, status=503)})
    undisturbed: list[int] = []
    disturbed: list[int] = []

    async def ask(mock: Workers, statuses: list[int], *, kill: bool) -> None:
        await mock.hub.change(sick)
        for turn in range(12):
            if kill and turn in {4, 8}:
                os.kill(mock.hub.pids[0], signal.SIGKILL)
            (client,) = await mock.clients(1)
            statuses.append((await client.ask(post(X_Request_Key="r")))[0])

    async def test() -> None:
        async with workers(QUICK, 1) as mock:
            await ask(mock, undisturbed, kill=False)
        async with workers(QUICK, 1) as mock:
            await ask(mock, disturbed, kill=True)

    run(test())
    said = "mock_llm: worker 0 died (SIGKILL): it is started again\n"
    assert disturbed == undisturbed
    assert set(disturbed) == {200, 503}
    assert capfd.readouterr().err == said * 2
