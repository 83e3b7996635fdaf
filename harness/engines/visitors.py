"""Users and arrivals against the service's real HTTP: what a batch job is to the other work.

Theory of operation. The pipeline runs as a service in this process; whoever asks is a task that
sends one request after another over HTTP, each at its intended start. What is recorded is what the
service records, with the intended starts put in: a request that was sent late is measured from when
it should have been. Callers wait for a little longer than their deadline, so that no time limit of
theirs poses as one of the service's.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from harness.corpus.review import Review
from harness.engines.base import OnProgress, Prepared
from harness.engines.callers import AT_LEAST_S, KEEP_ALIVE_S, SLICES, Callers, body_of
from harness.pipeline.answer import Answer
from harness.pipeline.dispatch import Stop
from harness.pipeline.service.host import Host
from harness.workload import (
    arrival_key,
    arrival_user,
    first_start_s,
    schedule,
    user_key,
    user_name,
)

GRACE_S = 5.0
"""By which a caller is more patient than its deadline says."""

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
            self._url = f"{await self._open_door(host)}/v1/reviews"
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
                for user in range(self._work.users):
                    group.create_task(self._user(user))
                return
            starts = schedule(self._work, self._seed, self._prepared.trace)
            for n, start in enumerate(starts):
                await self._until(start)
                name = user_name(arrival_user(self._work, n))
                group.create_task(self._ask(arrival_key(n), name, self._review(n), start))

    async def _user(self, user: int) -> None:
        """Ask, wait for the answer, think, ask again."""
        work, n = self._work, 0
        start = first_start_s(work, self._seed, user)
        while not self._is_over(n, start):
            await self._until(start)
            name, review = user_name(user), self._review(n, user)
            wait_s = await self._ask(user_key(user, n), name, review, start)
            n += 1
            start = self._next_start(user, n, asyncio.get_running_loop().time(), wait_s)

    async def _until(self, start: float) -> None:
        now = asyncio.get_running_loop().time()
        if self._began + start > now:
            await asyncio.sleep(self._began + start - now)

    async def _ask(self, key: str, user: str, review: Review, start: float) -> float:
        """Ask once; return the seconds after which to come back at the earliest."""
        intended = self._intend(key, review, start)
        self.late_s.append(asyncio.get_running_loop().time() - intended)
        headers = {"X-Request-Key": key, "X-User": user, "Content-Type": "application/json"}
        limit = self._work.deadline_s
        if limit is not None:
            headers["X-Deadline"] = repr(limit)
        data = body_of(review)
        try:
            async with (
                asyncio.timeout(None if limit is None else limit + GRACE_S),
                self._session.post(self._url, data=data, headers=headers) as response,
            ):
                data = await response.read()
        except (TimeoutError, aiohttp.ClientError):
            return AT_LEAST_S  # the service's rows tell
        self.statuses[key] = response.status
        if response.status == 200:
            found = msgspec.json.decode(data)
            self.answers[key] = Answer(text=found["text"], label=found["label"])
            return 0.0
        return max(AT_LEAST_S, _hint_s(data))

    async def _tick(self) -> None:
        """Say ten times how far it is."""
        duration = self._work.duration_s
        if duration is None or self._on_progress is None:
            return
        for number in range(1, SLICES + 1):
            await asyncio.sleep(duration / SLICES)
            self._tell(number, duration)


def _hint_s(data: bytes) -> float:
    """When to come back, as a refusal tells."""
    try:
        told = msgspec.json.decode(data)["error"].get("retry_after_s")
    except (msgspec.MsgspecError, TypeError, KeyError):
        return 0.0
    return told or 0.0
