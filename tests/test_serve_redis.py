"""Two service processes, one Redis: limits are shared, and its death costs nobody an answer."""

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis_server import RedisServer, redis_server
from service_process import Reply, ServiceProcess, service_process

from harness.pipeline.shared.limits import SKEW_S

PATIENCE = 100
QUICK = ("--set", "upstream.profile.ttft=0.01", "--quiet")


def asked(service: ServiceProcess, text: str, user: str = "ann") -> Reply:
    """Have one review labelled."""
    return service.ask("POST", "/v1/reviews", {"text": text}, X_User=user)


def links(*services: ServiceProcess) -> list[str]:
    """What each says of its link to Redis: whether it is up, and how often it had no answer."""
    pages = [service.ask("GET", "/metrics").body.decode() for service in services]
    return [word for page in pages for word in re.findall(r"^flight_redis_.*", page, re.MULTILINE)]


def users(*services: ServiceProcess) -> Iterator[str]:
    """One user after another, until Redis was there for all services all the time of one.

    Where the machine stands still for a tenth of a second a service takes Redis for away, and
    then nothing is shared for a while.
    """
    for n in range(PATIENCE):
        before = links(*services)
        yield f"ann{n}"
        if before == links(*services) and "flight_redis_up 0.0" not in before:
            return
    raise AssertionError(f"Redis was never there for long enough: {links(*services)}")


def test_two_processes_share_a_limit(tmp_path: Path) -> None:
    """Of 200 requests of one user, half to each process, exactly 60 are let through."""
    (tmp_path / "redis").mkdir()
    sets = (*QUICK, "--set", "pipeline.rate_limit=60")
    with redis_server(tmp_path / "redis") as redis:
        arguments = (*sets, "--redis-url", redis.url)
        with (
            service_process(tmp_path, *arguments) as one,
            service_process(tmp_path, *arguments) as two,
            ThreadPoolExecutor(8) as threads,
        ):
            for user in users(one, two):
                began_s = time.monotonic()
                asking = [
                    threads.submit(asked, (one, two)[n % 2], f"Lamp {n}.", user) for n in range(200)
                ]
                replies = [each.result() for each in asking]
                took_s = time.monotonic() - began_s
    statuses = Counter(reply.status for reply in replies)
    assert statuses == {200: 60, 429: 140}
    waits = [reply.json["error"]["retry_after_s"] for reply in replies if reply.status == 429]
    assert 60 - took_s - SKEW_S < min(waits) <= max(waits) <= 60


def test_redis_dies_and_comes_back(tmp_path: Path) -> None:
    """Killed and restarted under load: no request fails, and both processes hit again."""
    (tmp_path / "redis").mkdir()
    sets = (*QUICK, "--set", "pipeline.rate_limit=none", "--set", "pipeline.cache=redis")
    with redis_server(tmp_path / "redis") as redis:
        arguments = (*sets, "--redis-url", redis.url)
        with (
            service_process(tmp_path, *arguments) as one,
            service_process(tmp_path, *arguments) as two,
            ThreadPoolExecutor(8) as threads,
        ):
            replies = _under_load(threads, one, two, redis)
            shared = [_shares(one, two), _shares(two, one)]
    assert Counter(reply.status for reply in replies) == {200: len(replies)}
    assert shared == [True, True]


def _shares(one: ServiceProcess, two: ServiceProcess) -> bool:
    """Whether the second service answers from Redis what only the first has asked the provider.

    Each looks for Redis in pauses of its own, and on a busy machine holds it for away for a while
    once more: new texts are asked for until one is shared.
    """
    for n in range(PATIENCE):
        text = f"A lamp that is quite new to {one.url}, number {n}."
        if [asked(service, text).headers["X-Cache"] for service in (one, two)] == ["miss", "hit"]:
            return True
        time.sleep(0.2)
    return False


def _under_load(
    threads: ThreadPoolExecutor, one: ServiceProcess, two: ServiceProcess, redis: RedisServer
) -> list[Reply]:
    """What 900 requests are answered while Redis is killed after 300, restarted after 600."""
    draws, counted, lock = random.Random(1), [0], threading.Lock()
    texts = [f"Lamp {draws.randrange(100)}." for _ in range(900)]

    def ask(n: int) -> Reply:
        with lock:
            counted[0] += 1
            if counted[0] == 300:
                redis.kill()
            if counted[0] == 600:
                redis.start()
        return asked((one, two)[n % 2], texts[n])

    return list(threads.map(ask, range(len(texts))))


def test_two_processes_share_accounts_and_a_quota(tmp_path: Path) -> None:
    """What a user spends at one is spent at the other, and past the quota both refuse."""
    (tmp_path / "redis").mkdir()
    sets = (*QUICK, "--set", "pipeline.rate_limit=none", "--set", "pipeline.budget.user_usd=0.003")
    with redis_server(tmp_path / "redis") as redis:
        arguments = (*sets, "--redis-url", redis.url)
        with (
            service_process(tmp_path, *arguments) as one,
            service_process(tmp_path, *arguments) as two,
        ):
            for user in users(one, two):
                replies: list[Reply] = []
                while len(replies) < 100 and (not replies or replies[-1].status == 200):
                    turn, text = (one, two)[len(replies) % 2], f"Lamp {len(replies)}."
                    replies.append(asked(turn, text, user))
                spent = sum(float(reply.headers.get("X-Cost-USD", 0)) for reply in replies)
                told = [_told(service, user, spent) for service in (one, two)]
    assert replies[-1].status == 402
    assert 0.002 < spent < 0.0035
    assert told == [pytest.approx(spent, abs=1e-6)] * 2


def _told(service: ServiceProcess, user: str, spent: float) -> float:
    """What a user has spent, as a service says: no answer waits until it is written to Redis."""
    for _ in range(PATIENCE):
        usd = float(service.ask("GET", "/v1/usage", X_User=user).json["of_user"]["cost_usd"])
        if usd >= spent - 1e-6:
            break
        time.sleep(0.2)
    return usd
