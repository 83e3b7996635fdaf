"""Several workers with one capacity: slots, queue and speed are those of one provider."""

import asyncio
import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from loopback import QUESTION, Client, post, run
from served import Workers, workers

from mock_llm.config import Capacity, Profile, Upstream
from mock_llm.ledger import Row

ENDLESS_S = 1e6


def upstream(capacity: Capacity, ttft: float) -> Upstream:
    return Upstream(
        profile=Profile(ttft=ttft), capacity=capacity, keep_alive_s=None, handler_cancellation=True
    )


def read(ledger: Path) -> list[Row]:
    return [msgspec.json.decode(line, type=Row) for line in ledger.read_bytes().splitlines()]


async def until(mock: Workers, *, serving: int, waiting: int) -> None:
    """Wait until so many are at the provider."""
    station = mock.hub._slots.station
    while (station.serving, station.waiting) != (serving, waiting):  # noqa: ASYNC110 - it is the hub's
        await asyncio.sleep(0.001)


def asking(client: Client, key: str) -> "asyncio.Task[tuple[int, str, bytes]]":
    return asyncio.create_task(client.ask(post(QUESTION, X_Request_Key=key)))


async def held(mock: Workers) -> tuple[Client, "asyncio.Task[tuple[int, str, bytes]]"]:
    """The client of an attempt that stays in service until it leaves; others are quick."""
    (client,) = await mock.clients(1)
    task = asking(client, "held")
    await until(mock, serving=1, waiting=0)
    await mock.hub.change(upstream(mock.hub._server.upstream.capacity or Capacity(), 0.01))
    return client, task


async def left(client: Client, task: "asyncio.Task[tuple[int, str, bytes]]") -> None:
    await client.leave()
    await asyncio.wait([task])


def test_no_two_are_served_at_once(tmp_path: Path) -> None:
    """With one slot sixteen attempts at two workers are in service one after the other."""
    ledger = tmp_path / "ledger.jsonl"

    async def test() -> None:
        async with workers(upstream(Capacity(slots=1), 0.02), ledger_file=str(ledger)) as mock:
            clients = await mock.clients(16)
            answers = await asyncio.gather(*(one.ask(post()) for one in clients))
            assert min(await mock.attempts()) > 0
        assert {status for status, _, _ in answers} == {200}

    run(test())
    ends_s = sorted(row.last_token_s or 0.0 for row in read(ledger))
    assert len(ends_s) == 16
    # A clock of milliseconds may have a timer fire within the one before.
    assert min(later - end for end, later in pairwise(ends_s)) >= 0.02 - 1e-3


@pytest.mark.parametrize("order", ["fifo", "lifo"])
def test_the_queue_is_served_in_its_order(tmp_path: Path, order: Literal["fifo", "lifo"]) -> None:
    """Attempts that come one by one at two workers are served in this order, or from its end."""
    ledger = tmp_path / "ledger.jsonl"

    async def test() -> None:
        one_slot = upstream(Capacity(slots=1, order=order), ENDLESS_S)
        async with workers(one_slot, ledger_file=str(ledger)) as mock:
            first = await held(mock)
            asked = []
            for number, client in enumerate(await mock.clients(12)):
                asked.append(asking(client, f"{number:02}"))
                await until(mock, serving=1, waiting=number + 1)
            await left(*first)
            await asyncio.gather(*asked)
            assert min(await mock.attempts()) > 0

    run(test())
    rows = [row for row in read(ledger) if row.key != "held"]
    began = sorted(rows, key=lambda row: (row.admitted_s or 0.0) + row.queued_s)
    keys = [f"{number:02}" for number in range(12)]
    assert [row.key for row in began] == (keys if order == "fifo" else keys[::-1])


def test_without_a_queue_all_workers_refuse() -> None:
    """While the only slot is taken whoever is asked says overloaded; afterwards, nobody does."""

    async def test() -> None:
        async with workers(upstream(Capacity(slots=1, queue=0), ENDLESS_S)) as mock:
            first = await held(mock)
            clients = await mock.clients(12)
            statuses = [(await client.ask(post()))[0] for client in clients]
            await left(*first)
            await until(mock, serving=0, waiting=0)
            for client in clients:
                statuses.append((await client.ask(post()))[0])
                await until(mock, serving=0, waiting=0)
            assert statuses == [503] * 12 + [200] * 12
            assert min(await mock.attempts()) > 0

    run(test())


def test_one_worker_slows_the_other(tmp_path: Path) -> None:
    """With an attempt under way at one, those at either have half the speed."""
    ledger = tmp_path / "ledger.jsonl"

    async def test() -> None:
        shared = upstream(Capacity(full_speed=1), ENDLESS_S)
        async with workers(shared, ledger_file=str(ledger)) as mock:
            first = await held(mock)
            for client in await mock.clients(12):
                await client.ask(post())
                await until(mock, serving=1, waiting=0)
            assert min(await mock.attempts()) > 0
            await left(*first)

    run(test())
    slowed_s = [row.slowed_s for row in read(ledger) if row.key != "held"]
    assert slowed_s == pytest.approx([0.01] * 12)


def test_a_worker_that_is_killed_frees_its_slots() -> None:
    """Whoever waits at the others is served then, and so is who asks its successor."""

    async def test() -> None:
        async with workers(upstream(Capacity(slots=1), ENDLESS_S)) as mock:
            await held(mock)
            ((number, _),) = mock.hub._slots.station._serving
            asked = [asking(client, "r") for client in await mock.clients(12)]
            await until(mock, serving=1, waiting=12)
            os.kill(mock.hub.pids[number], signal.SIGKILL)
            ended = await asyncio.wait(asked)
            lost = {one for one in ended[0] if one.exception() is not None}
            assert {one.result()[0] for one in ended[0] - lost} == {200}
            assert len(lost) < 12
            clients = await mock.clients(12)
            assert {(await client.ask(post()))[0] for client in clients} == {200}
            assert len(await mock.attempts()) == 2

    run(test())
