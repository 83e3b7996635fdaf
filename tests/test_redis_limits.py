"""Limits per user that processes share: exact together, alone when Redis is away."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Literal

import pytest
from redis_server import RedisServer, redis_server

from harness.pipeline.limits import UserLimits
from harness.pipeline.shared import (
    Limits,
    MemoryLimits,
    RedisLimits,
    RedisLink,
    limits_of,
)
from harness.scenario.pipeline import Pipeline

SCRIPT = Path(__file__).with_name("taking.py")
Kind = Literal["sliding", "gcra"]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def two_processes(url: str, limit: int, window_s: float, seconds: float) -> list[dict[str, Any]]:
    """What two processes were told that took from one user's limit side by side."""
    words = [sys.executable, str(SCRIPT), url, str(limit), str(window_s), str(seconds)]
    pipe = subprocess.PIPE
    running = [subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [json.loads(process.communicate(timeout=60)[0]) for process in running]
    assert [one["errors"] for one in told] == [0, 0]
    return told


def test_two_processes_share_a_limit_exactly(tmp_path: Path) -> None:
    """A hundred a minute is a hundred over both, and each of them is told when the next may go."""
    with redis_server(tmp_path) as server:
        told = two_processes(server.url, 100, 60.0, 3.0)
    assert sum(len(one["admitted"]) for one in told) == 100
    waits = [wait for one in told for wait in one["waits"]]
    assert len(waits) >= 8
    assert all(50.0 < wait <= 60.0 for wait in waits)


def test_no_window_over_two_processes_holds_more(tmp_path: Path) -> None:
    """However the windows are laid, none of them has seen more than the limit."""
    limit, window_s = 40, 0.5
    with redis_server(tmp_path) as server:
        told = two_processes(server.url, limit, window_s, 3.0)
    spans = sorted(tuple(span) for one in told for span in one["admitted"])
    assert len(spans) > 3 * limit
    for n in range(len(spans) - limit):
        ends = [ended for _, ended in spans[n : n + limit + 1]]
        # All of them were admitted between the first one's asking and the last one's answer.
        assert max(ends) - spans[n][0] >= window_s


@pytest.mark.parametrize("kind", ["sliding", "gcra"])
def test_redis_tells_what_memory_tells(kind: Kind, tmp_path: Path) -> None:
    """The same requests are admitted and refused as by the limit in memory, with the same waits."""

    async def test(server: RedisServer) -> None:
        link = RedisLink(server.url, timeout_s=5)
        # Several, as in several processes: none of them has enough in its own memory to refuse.
        shared = [RedisLimits(link, 5, 30.0, kind) for _ in range(3)]
        plain = UserLimits(5, 30.0, kind)
        loop = asyncio.get_running_loop()
        for n in range(12):
            user = "a:\udcffb" if n % 2 else "c"
            expected = plain.take(user, loop.time())
            found = await shared[n % 3].take(user, loop.time())
            assert (found == 0) == (expected == 0)
            assert found == pytest.approx(expected, abs=3.0)
        assert link.errors == 0
        await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))


@pytest.mark.parametrize("kind", ["sliding", "gcra"])
def test_whoever_waits_as_told_is_admitted(kind: Kind, tmp_path: Path) -> None:
    """The wait is a true one: after it there is room, and half of it is not enough."""

    async def test(server: RedisServer) -> None:
        link = RedisLink(server.url, timeout_s=5)
        limits = RedisLimits(link, 2, 2.0, kind)
        now = asyncio.get_running_loop().time
        assert [await limits.take("u", now()) for _ in range(2)] == [0.0, 0.0]
        wait_s = await limits.take("u", now())
        await asyncio.sleep(wait_s / 2)
        rest_s = await limits.take("u", now())
        assert 0.0 < rest_s <= wait_s / 2
        await asyncio.sleep(rest_s)
        assert await limits.take("u", now()) == 0.0
        await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))


def test_a_redis_that_lost_its_scripts_is_told_them_again(tmp_path: Path) -> None:
    """A restart, a failover or SCRIPT FLUSH costs nobody anything."""

    async def test(server: RedisServer) -> None:
        link = RedisLink(server.url, timeout_s=5)
        limits = RedisLimits(link, 3)
        for _ in range(3):
            assert await limits.take("u", 0.0) == 0.0
            await link.run(("SCRIPT", "FLUSH"))
        assert await limits.take("u", 0.0) > 50.0
        assert link.errors == 0
        await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))


@pytest.mark.parametrize("kind", ["sliding", "gcra"])
def test_a_process_keeps_the_limit_through_an_outage(kind: Kind, tmp_path: Path) -> None:
    """Redis is killed, comes back empty, and a process lets no more through than ever."""

    async def test(server: RedisServer) -> None:
        link = RedisLink(server.url, timeout_s=5)
        limits, now = RedisLimits(link, 10, 60.0, kind), asyncio.get_running_loop().time

        async def admitted(count: int) -> int:
            return [await limits.take("u", now()) for _ in range(count)].count(0.0)

        assert await admitted(4) == 4
        server.kill()
        assert await admitted(3) == 3
        assert not link.up
        server.start()
        assert link._probe is not None
        await link._probe
        assert await admitted(20) == 3
        # What this process refused is not counted against the others.
        other = RedisLimits(link, 10, 60.0, kind)
        assert [await other.take("u", now()) for _ in range(10)].count(0.0) == 7
        await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))


def test_limits_under_load_while_redis_is_killed(tmp_path: Path) -> None:
    """No request of a hundred users fails, and each user has had exactly his share."""

    async def test(server: RedisServer) -> None:
        link = RedisLink(server.url, timeout_s=5)
        limits, now = RedisLimits(link, 20), asyncio.get_running_loop().time
        counts: list[int] = []

        async def user(name: str) -> None:
            admitted = 0
            for _ in range(60):
                admitted += await limits.take(name, now()) == 0.0
                await asyncio.sleep(0.01)
            counts.append(admitted)

        async with asyncio.TaskGroup() as group:
            for n in range(100):
                group.create_task(user(f"u{n}"))
            await asyncio.sleep(0.1)
            server.kill()
            await asyncio.sleep(0.3)
            server.start()
        assert counts == [20] * 100
        await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (Pipeline(rate_limit=None), type(None)),
        (Pipeline(), MemoryLimits),
        (Pipeline(redis_url="redis://127.0.0.1:1", limiter="gcra"), RedisLimits),
    ],
)
def test_settings_make_the_limits(settings: Pipeline, kind: type) -> None:
    """The limits are those that the settings ask for."""
    link = RedisLink(settings.redis_url) if settings.redis_url else None
    limits: Limits | None = limits_of(settings, link)
    assert type(limits) is kind


def test_memory_limits_are_the_pure_ones() -> None:
    """A process of its own counts by the loop's clock alone."""

    async def test() -> None:
        limits = limits_of(Pipeline(rate_limit=2))
        assert limits is not None
        assert [await limits.take("u", t) for t in (0.0, 1.0, 2.0, 60.0)] == [0.0, 0.0, 58.0, 0.0]

    run(test())
