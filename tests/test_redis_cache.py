"""The cache behind the cache: a real Redis that is shared, dies, hangs, comes back and lies."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer, redis_server

from harness.errors import InputError
from harness.pipeline.answer import Answer
from harness.pipeline.cache import (
    Held,
    MemoryCache,
    MinHashIndex,
    RedisCache,
    TieredCache,
    cache_key,
)
from harness.pipeline.shared import RedisLink
from harness.pipeline.shared.link import CONNECTIONS
from mock_llm.rng import Keyed

HOUR_S = 3600.0


def key(text: str) -> bytes:
    return cache_key(text, "v", "m")


def told(text: str) -> Answer:
    return Answer(text=text, label="positive", prompt_tokens=7, cost_usd=1e-7)


def tiers(link: RedisLink, *, ttl_s: float = HOUR_S, entries: int = 1000) -> TieredCache:
    return TieredCache(MemoryCache(entries, ttl_s, MinHashIndex), RedisCache(link, ttl_s))


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def now() -> float:
    return asyncio.get_running_loop().time()


async def get(cache: TieredCache, text: str) -> Held | None:
    return await cache.get(key(text), text, now())


async def put(cache: TieredCache, text: str) -> None:
    await cache.put(key(text), text, told(text), now())


async def until_up(link: RedisLink) -> None:
    if link._probe is not None:
        await link._probe
    assert link.up


def test_answers_are_shared_through_redis(tmp_path: Path) -> None:
    """What one process put, another finds in Redis at first and in its memory from then on."""

    async def test(server: RedisServer) -> None:
        one, other = RedisLink(server.url, timeout_s=5), RedisLink(server.url, timeout_s=5)
        mine, yours = tiers(one), tiers(other)
        assert await get(mine, "a text") is None
        await put(mine, "a text")
        found = [await get(yours, "a text") for _ in range(2)]
        assert [(held.origin, held.how) for held in found if held] == [
            ("redis", "exact"),
            ("memory", "exact"),
        ]
        assert found[0] is not None
        assert found[0].answer == told("a text")
        counts = yours.statistics()
        assert (counts["redis_hits"], counts["memory_hits"], counts["misses"]) == (1, 1, 0)
        assert mine.statistics()["misses"] == 1
        for link in (one, other):
            assert link.statistics() == {"redis_up": 1, "redis_errors": 0, "redis_outages": 0}
            await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))


def test_an_answer_keeps_its_age(tmp_path: Path) -> None:
    """An answer found in Redis is good for as long as it still was there, and no longer."""

    async def test(server: RedisServer) -> None:
        link = RedisLink(server.url, timeout_s=5)
        await RedisCache(link, HOUR_S).put(key("old"), "old", told("old"), 0.0, age_s=3000.0)
        cache = tiers(link)
        held = await get(cache, "old")
        assert held is not None
        assert held.age_s == pytest.approx(3000.0, abs=30.0)
        later = await cache._first.get(key("old"), "old", now() + 599.0 - 30.0)
        assert later is not None
        assert await cache._first.get(key("old"), "old", now() + 601.0) is None
        await RedisCache(link, HOUR_S).put(key("stale"), "stale", told("s"), 0.0, age_s=HOUR_S)
        assert await get(cache, "stale") is None
        await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))


def test_exact_in_redis_goes_before_near_in_memory(tmp_path: Path) -> None:
    """A like text's answer is handed out only where nobody has the text's own."""

    async def test(server: RedisServer) -> None:
        link = RedisLink(server.url, timeout_s=5)
        text = " ".join(f"w{n}" for n in range(60))
        mine, yours = tiers(link), tiers(link)
        await put(mine, text)
        near = await get(mine, text + " end")
        assert near is not None
        assert near.how == "near"
        await put(yours, text + " end")
        exact = await get(mine, text + " end")
        assert exact is not None
        assert (exact.how, exact.origin) == ("exact", "redis")
        await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))


def test_redis_killed_and_restarted_under_load(tmp_path: Path) -> None:
    """No look-up fails, what was known stays known, and an empty Redis is warm again after use."""

    async def test(server: RedisServer) -> None:
        link = RedisLink(server.url, timeout_s=5)
        cache = tiers(link)
        lost: list[str] = []
        stop = asyncio.Event()

        async def load(worker: int) -> None:
            n = 0
            while not stop.is_set():
                text = f"text {worker} {n % 20}"
                held = await get(cache, text)
                if held is None:
                    if n >= 20:
                        lost.append(text)
                    await put(cache, text)
                else:
                    assert held.answer == told(text)
                n += 1
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for worker in range(30):
                group.create_task(load(worker))
            await asyncio.sleep(0.3)
            server.kill()
            while link.up:
                await link.run(("PING",))
            await asyncio.sleep(0.3)
            server.start()
            await until_up(link)
            await asyncio.sleep(0.3)
            stop.set()
        assert lost == []
        assert link.statistics()["redis_outages"] >= 1
        for text in {f"text {worker} {n}" for worker in range(30) for n in range(20)}:
            await get(cache, text)
        fresh = tiers(link)
        held = [await get(fresh, f"text {worker} {n}") for worker in range(30) for n in range(20)]
        assert [one.origin for one in held if one] == ["redis"] * 600
        await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))


def test_a_frozen_redis_is_waited_for_once(tmp_path: Path) -> None:
    """Those who are under way when Redis freezes wait for the bound, and nobody after them."""

    async def test(server: RedisServer) -> None:
        link = RedisLink(server.url, timeout_s=0.5)
        cache = tiers(link)
        await put(cache, "known")
        server.freeze()

        async def request(n: int) -> None:
            assert await get(cache, f"text {n}") is None
            await put(cache, f"text {n}")

        await asyncio.gather(*(request(n) for n in range(10)))
        await asyncio.gather(*(request(n) for n in range(10, 500)))
        # Each of the first ten, and since then probes of the link's own.
        assert 10 <= link.errors < 30
        assert cache.statistics()["redis_up"] == 0
        server.thaw()
        await until_up(link)
        assert cache.statistics()["redis_up"] == 1
        await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))


def test_pauses_between_probes_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that never was there is asked after 0.1 s, then twice as late each time, to 5 s."""
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) > 8:
            await asyncio.Event().wait()
        await sleep(0)

    async def test() -> None:
        link = RedisLink("redis://127.0.0.1:1")
        monkeypatch.setattr("harness.pipeline.shared.link.asyncio.sleep", noted)
        assert await link.run(("PING",)) is None
        assert await link.run(("PING",)) is None
        while len(waits) < 9:
            await sleep(0.001)
        assert link.errors == 9  # one command and eight probes: the second command was not sent
        await link.close()

    run(test())
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_cancelled_callers_mix_nothing_up(tmp_path: Path) -> None:
    """However callers are cancelled, answers go to their own keys and connections stay few."""

    async def test(server: RedisServer) -> None:
        link = RedisLink(server.url, timeout_s=5)
        cache, names = RedisCache(link), [f"text {n}" for n in range(100)]
        for name in names:
            await cache.put(key(name), name, told(name), 0.0)
        uniform = Keyed(1).stream("test.cancel")

        async def ask(name: str, number: int) -> None:
            held = await cache.get(key(name), name, 0.0)
            assert held is not None
            assert held.answer == told(name)
            assert uniform(name, number) < 1.0

        for number in range(20):
            tasks = [asyncio.create_task(ask(name, number)) for name in names]
            for step in range(40):
                await asyncio.sleep(0)
                for name, task in zip(names, tasks, strict=True):
                    if uniform(name, 1000 * (step + 1) + number) < 0.02:
                        task.cancel()
            done = await asyncio.wait(tasks)
            assert [one.exception() for one in done[0] if not one.cancelled()].count(None) > 0
            assert not any(one.exception() for one in done[0] if not one.cancelled())
        for name in names:
            await ask(name, 0)
        found = await link.run(("CLIENT", "LIST"))
        assert found is not None
        assert len(found[0].split(b"\n")) <= CONNECTIONS + 1
        assert link.errors == 0
        await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))


def test_what_is_no_answer_is_a_miss(tmp_path: Path) -> None:
    """Somebody else's data under our key is asked anew, and written over."""

    async def test(server: RedisServer) -> None:
        link = RedisLink(server.url, timeout_s=5)
        cache = tiers(link)
        name = link.key("answer", key("a").hex())
        for command in (("SET", name, "{}"), ("SET", name, b"\xff")):
            await link.run(command)
            assert await get(cache, "a") is None
        await put(cache, "a")
        assert await get(tiers(link), "a") is not None
        await link.close()

    with redis_server(tmp_path) as server:
        run(test(server))


def test_an_idle_connection_that_was_closed_is_no_outage(tmp_path: Path) -> None:
    """A Redis that closes idle connections, as hosted ones do, is still there."""

    async def test(server: RedisServer) -> None:
        link, other = RedisLink(server.url, timeout_s=5), RedisLink(server.url, timeout_s=5)
        assert await link.run(("PING",)) is not None
        await other.run(("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
        await asyncio.sleep(0.05)
        assert await link.run(("PING",)) is not None
        assert link.errors == 0
        await link.close()
        await other.close()

    with redis_server(tmp_path) as server:
        run(test(server))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:6379", "looks like redis://"),
        ("redis://127.0.0.1:port", "looks like redis://"),
        ("redis://127.0.0.1:6379/0?colour=red", "looks like redis://"),
        ("rediss://127.0.0.1/0?ssl_cert_reqs=none", "always verified"),
    ],
)
def test_a_wrong_address_is_told_in_one_line(url: str, said: str) -> None:
    """An address that is none, or that would switch checks off, is refused before any use."""

    async def test() -> None:
        with pytest.raises(InputError, match=said) as caught:
            RedisLink(url)
        assert str(caught.value).startswith("pipeline.redis_url: ")
        assert "\n" not in str(caught.value)

    run(test())
