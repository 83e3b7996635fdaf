"""Accounts of users and sessions: in memory, and over several processes."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from redis_server import RedisServer, redis_server

from harness.engines.virtual_loop import run_virtual
from harness.pipeline.shared import Account, MemorySessions, RedisLink, RedisSessions

TOKEN_USD = 1.5e-7


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def test_memory_counts_users_and_their_sessions() -> None:
    """A user's account is the sum of his sessions', to the nano-dollar, and tells the idle time."""

    async def test() -> None:
        sessions = MemorySessions()
        for n in range(30):
            await sessions.add("u", f"s{n % 3}", TOKEN_USD)
            await asyncio.sleep(1.0)
        assert await sessions.of_user("u") == Account(30, 30 * 150, 1.0)
        assert await sessions.of_session("s1") == Account(10, 1500, 2.0)
        assert await sessions.of_user("s1") == Account()
        assert (await sessions.of_user("u")).usd == 4.5e-6

    run_virtual(test())


def test_memory_forgets_who_was_away_for_longest() -> None:
    """However many there are, it holds no more than it may."""

    async def test() -> None:
        sessions = MemorySessions(max_entries=4)
        for user in ("a", "b", "a", "c"):
            await sessions.add(user, f"of {user}", 1.0)
        assert [(await sessions.of_user(user)).requests for user in "abc"] == [2, 0, 1]

    run_virtual(test())


def test_processes_add_up(tmp_path: Path) -> None:
    """Accounts are the sum over processes, also where nobody here has asked yet."""

    async def test(server: RedisServer) -> None:
        link = RedisLink(server.url, timeout_s=5)
        one, other, third = (RedisSessions(link) for _ in range(3))
        for n in range(50):
            await one.add("u", "s", TOKEN_USD)
            await other.add("u", f"t{n % 2}", 2 * TOKEN_USD)
        for sessions in (one, other, third):
            found = await sessions.of_user("u")
            assert (found.requests, found.nano_usd) == (100, 22_500)
            assert found.idle_s is not None
            assert 0.0 <= found.idle_s < 30.0
            assert (await sessions.of_session("t1")).requests == 25
            assert await sessions.of_session("nobody's") == Account()
        assert link.errors == 0
        await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))


def test_dollars_survive_an_outage(tmp_path: Path) -> None:
    """What was spent before and while Redis was away is there again with the next request."""

    async def test(server: RedisServer) -> None:
        link = RedisLink(server.url, timeout_s=5)
        one, other = RedisSessions(link), RedisSessions(link)
        await one.add("u", "s", 1.0)
        await other.add("u", "s", 0.5)
        server.kill()
        await one.add("u", "s", 2.0)
        alone = await one.of_user("u")
        assert (alone.requests, alone.usd) == (2, 3.0)
        server.start()
        assert link._probe is not None
        await link._probe
        assert (await one.of_user("u")).usd == 3.0
        await one.add("u", "s", 4.0)
        await other.add("u", "s", 0.25)
        for sessions in (one, other, RedisSessions(link)):
            found = await sessions.of_user("u")
            assert (found.requests, found.usd) == (5, 7.75)
        await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))


def test_a_forgotten_share_is_not_written_over(tmp_path: Path) -> None:
    """A process that forgot an account in memory begins a new share beside the old one."""

    async def test(server: RedisServer) -> None:
        link = RedisLink(server.url, timeout_s=5)
        sessions = RedisSessions(link, max_entries=2)
        for user in ("a", "b", "a", "b", "a"):
            await sessions.add(user, f"of {user}", 1.0)
        assert (await sessions.of_user("a")).usd == 3.0
        assert (await sessions.of_user("b")).usd == 2.0
        await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))


def test_accounts_are_forgotten_in_the_end(tmp_path: Path) -> None:
    """What nobody has added to for `keep_s` is gone from Redis, and reading does not keep it."""

    async def test(server: RedisServer) -> None:
        link = RedisLink(server.url, timeout_s=5)
        await RedisSessions(link, keep_s=0.3).add("u", "s", 1.0)
        reader = RedisSessions(link, keep_s=0.3)
        for _ in range(6):
            await reader.of_user("u")
            await asyncio.sleep(0.1)
        assert await reader.of_user("u") == Account()
        assert await link.run(("KEYS", "*")) == [[]]
        await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))
