"""Users and arrivals against the service's real HTTP: what a batch job is to the other work.

Theory of operation. The pipeline runs as a service in this process; whoever asks is a task that
sends one request after another over HTTP, each at its intended start. What is recorded is what the
service records, with the intended starts put in: a request that was sent late is measured from when
it should have been. Callers wait for a little longer than their deadline, so that no time limit of
theirs poses as one of the service's.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from harness.corpus.review import Review
from harness.engines.asking import (
    AT_LEAST_S,
    GRACE_S,
    batch_body,
    cheapest,
    headers_of,
    hint_s,
    item_keys,
    review_body,
    stream_body,
    stream_headers,
)
from harness.engines.base import OnProgress, Prepared
from harness.engines.callers import KEEP_ALIVE_S, SLICES, Callers
from harness.pipeline.answer import Answer
from harness.pipeline.dispatch import Stop
from harness.pipeline.service.host import Host
from harness.scenario.workload import Kind, Mix
from harness.workload import (
    arrival_key,
    arrival_user,
    first_start_s,
    kinds,
    schedule,
    user_key,
    user_name,
)

OpenDoor = Callable[[Host], Awaitable[str]]


class Visits(Callers):
    """One run of users or arrivals over HTTP.

    Args:
        prepared: what is run.
        seed: of the weather, the gaps and the thinking.
        base_url: of the provider.
        open_door: lets callers reach the service, and returns its base URL.
        on_progress: called ten times in the run.

    Attributes:
        statuses: HTTP status of each request that was answered, by key.
        late_s: seconds by which requests were sent after their intended start.
    """

    def __init__(
        self,
        prepared: Prepared,
        seed: int,
        base_url: str,
        open_door: OpenDoor,
        on_progress: OnProgress | None,
    ) -> None:
        super().__init__(prepared, seed, base_url, on_progress)
        self.statuses: dict[str, int] = {}
        self.late_s: list[float] = []
        self._open_door = open_door
        self._base_url = base_url
        self._mix = self._work.mix or Mix(reviewer=1.0)
        self._task: asyncio.Task[Any] | None = None

    def stop(self, reason: Stop) -> None:
        """End it now; to be called from the loop."""
        if self._task is not None and self.stopped is None and not self._task.done():
            self.stopped = reason
            self._task.cancel()

    async def run(self) -> None:
        """Let all come and go; afterwards each request has its rows."""
        self._began = asyncio.get_running_loop().time()
        settings = self._prepared.scenario.pipeline
        host = Host(settings, self._tools, self._prepared.router, record=self._record)
        async with host:
            self._url = await self._open_door(host)
            async with self._callers() as self._session:
                self._task = asyncio.create_task(self._all())
                ticker = asyncio.create_task(self._tick())
                await asyncio.wait([self._task])
                ticker.cancel()
                if self._task.exception() if not self._task.cancelled() else None:
                    self._task.result()
        self._close(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def _callers(self) -> AsyncIterator[aiohttp.ClientSession]:
        """One pool of connections for all: users keep theirs alive."""
        no_limits = aiohttp.ClientTimeout(total=None, sock_connect=None, sock_read=None)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
        async with aiohttp.ClientSession(connector=connector, timeout=no_limits) as session:
            yield session

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            if self._work.kind == "users":
                for user, kind in enumerate(kinds(self._work)):
                    group.create_task(self._user(user, kind, group))
                return
            starts = schedule(self._work, self._seed, self._prepared.trace)
            for n, start in enumerate(starts):
                await self._until(start)
                name = user_name(arrival_user(self._work, n))
                group.create_task(self._ask(arrival_key(n), name, self._review(n), start))

    async def _user(self, user: int, kind: Kind, group: asyncio.TaskGroup) -> None:
        """Ask, wait for the answer, think, ask again; an abuser waits for nothing."""
        work, n = self._work, 0
        start = first_start_s(work, self._seed, user)
        while not self._is_over(n, start):
            await self._until(start)
            visit = self._visit(kind, user, n, start)
            n += 1
            if kind == "abuser":
                group.create_task(visit)
                start += 1 / self._mix.abuser_per_s
                continue
            wait_s = await visit
            start = self._next_start(user, n, asyncio.get_running_loop().time(), wait_s)

    def _visit(self, kind: Kind, user: int, n: int, start: float) -> Coroutine[Any, Any, float]:
        """What a user does; returns the seconds after which to come back at the earliest."""
        key, name = user_key(user, n), user_name(user)
        if kind == "batch":
            many = self._mix.batch_reviews
            reviews = [self._review(n * many + item, user) for item in range(many)]
            return self._hand_in(key, name, reviews)
        if kind == "stream":
            return self._stream(key, name, self._review(n, user))
        return self._ask(key, name, self._review(n, user), start)

    async def _until(self, start: float) -> None:
        now = asyncio.get_running_loop().time()
        if self._began + start > now:
            await asyncio.sleep(self._began + start - now)

    async def _ask(self, key: str, user: str, review: Review, start: float) -> float:
        """Ask once; return the seconds after which to come back at the earliest."""
        intended = self._intend(key, review, start)
        self.late_s.append(asyncio.get_running_loop().time() - intended)
        headers = headers_of(self._work, key, user)
        status, data = await self._call("POST", "/v1/reviews", headers, review_body(review))
        if not status:
            return AT_LEAST_S  # the service's rows tell
        self.statuses[key] = status
        if status == 200:
            found = msgspec.json.decode(data)
            self.answers[key] = Answer(text=found["text"], label=found["label"])
            return 0.0
        return max(AT_LEAST_S, hint_s(data))

    async def _hand_in(self, key: str, user: str, reviews: list[Review]) -> float:
        """Hand a batch in, and look after it until it is done."""
        headers = headers_of(self._work, key, user)
        status, data = await self._call("POST", "/v1/batches", headers, batch_body(reviews))
        if status != 202:
            return max(AT_LEAST_S, hint_s(data))
        batch = msgspec.json.decode(data)
        keys = item_keys(batch["id"], batch["total"])
        self.items |= dict.fromkeys(keys)
        self.truths |= {k: one.label for k, one in zip(keys, reviews, strict=True) if one.label}
        while batch["status"] == "running":
            await asyncio.sleep(self._mix.poll_s)
            status, data = await self._call("GET", batch["url"], headers)
            if status != 200:
                return max(AT_LEAST_S, hint_s(data))
            batch |= msgspec.json.decode(data)
        for one in batch["results"]:
            if one["outcome"] == "ok":
                self.answers[one["key"]] = Answer(text="", label=one["label"])
            elif one["outcome"] == "rejected":  # nothing came of it, not even a row
                self.items.pop(one["key"])
        return 0.0

    async def _stream(self, key: str, user: str, review: Review) -> float:
        """Ask the provider itself; what comes of it is in nobody's rows but its own."""
        body = stream_body(cheapest(self._prepared.prices), review)
        headers = stream_headers(key, user)
        await self._call("POST", f"{self._base_url}/chat/completions", headers, body)
        return AT_LEAST_S

    async def _call(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b""
    ) -> tuple[int, bytes]:
        """One HTTP call; its status is 0 when there was no answer."""
        limit_s = self._work.deadline_s
        url = path if "://" in path else f"{self._url}{path}"
        try:
            async with (
                asyncio.timeout(None if limit_s is None else limit_s + GRACE_S),
                self._session.request(method, url, data=body, headers=headers) as response,
            ):
                return response.status, await response.read()
        except (TimeoutError, aiohttp.ClientError):
            return 0, b""

    async def _tick(self) -> None:
        """Say ten times how far it is."""
        duration = self._work.duration_s
        if duration is None or self._on_progress is None:
            return
        for number in range(1, SLICES + 1):
            await asyncio.sleep(duration / SLICES)
            self._tell(number, duration)
