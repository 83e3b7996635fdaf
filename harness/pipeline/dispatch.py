"""Hands reviews to workers, wave by wave, until they are done or the job is stopped.

Theory of operation. A wave (one batch behind a barrier, else the whole job) is served by workers.
Where the slot is awaited before the time limit, a worker *is* a slot: there are `concurrency` of
them and each takes the next review when it has done with the last. In the two published mistakes
every review of a wave has a worker of its own, and the semaphore is awaited too late or never.

A job is stopped by its own deadline or from outside. Whatever was in flight is then cancelled and
writes itself down; a cancellation that is not ours is passed on.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from harness.pipeline.request import Item
from harness.records import Outcome
from harness.scenario.pipeline import Pipeline

Stop = Literal["job_deadline", "interrupted", "never_answered", "budget"]
OUTCOME_OF_STOP: dict[Stop, Outcome] = {
    "job_deadline": "timed_out",
    "interrupted": "failed",
    "never_answered": "failed",
    "budget": "rejected",
}

# What a worker does with an item: (item, number of the worker, when the item's wave was queued).
Handle = Callable[[Item, int, float], Awaitable[None]]


class Dispatch:
    """One pass over the items.

    Attributes:
        stopped: why it was ended before its end, or None.
        began: the loop's time at the start.
        started: keys of the items that a worker has taken.
    """

    def __init__(self, items: Sequence[Item], settings: Pipeline, handle: Handle) -> None:
        self.stopped: Stop | None = None
        self.began = 0.0
        self.started: set[str] = set()
        self._items = items
        self._set = settings
        self._handle = handle
        self._task: asyncio.Task[object] | None = None

    def stop(self, reason: Stop) -> None:
        """End it now; to be called from the loop."""
        if self._task is not None and self.stopped is None and not self._task.done():
            self.stopped = reason
            self._task.cancel()

    async def run(self) -> None:
        """Serve every item, or as many as there is time for."""
        loop = asyncio.get_running_loop()
        self.began = loop.time()
        self._task = task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0
        deadline = self._set.job_deadline_s
        timer = deadline and loop.call_at(self.began + deadline, self.stop, "job_deadline")
        try:
            for wave in self._waves():
                await self._serve(wave, loop.time())
        except asyncio.CancelledError:
            # Ours is taken back; whoever else has cancelled us, even at this moment, is obeyed.
            if self.stopped is None or task is None or task.uncancel() > cancelled_before:
                raise
        finally:
            self._task = None
            if timer:
                timer.cancel()

    def _waves(self) -> list[Sequence[Item]]:
        if not self._set.barrier:
            return [self._items]
        size = self._set.batch_size or len(self._items)
        return [self._items[at : at + size] for at in range(0, len(self._items), size)]

    async def _serve(self, wave: Sequence[Item], queued: float) -> None:
        waiting = deque(wave)
        async with asyncio.TaskGroup() as group:
            for number in range(self._count(wave)):
                group.create_task(self._work(number, waiting, queued))

    def _count(self, wave: Sequence[Item]) -> int:
        """Workers for a wave."""
        if self._set.slot != "before_timeout":
            return len(wave)
        # Where the slots adapt, a gate behind them decides how many are in use.
        adaptive = self._set.adaptive
        return min(len(wave), self._set.concurrency if adaptive is None else adaptive.highest)

    async def _work(self, number: int, waiting: deque[Item], queued: float) -> None:
        while waiting:
            item = waiting.popleft()
            self.started.add(item.key)
            await self._handle(item, number, queued)
