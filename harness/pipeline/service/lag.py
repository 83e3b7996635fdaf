"""How late an event loop is: what blocks it shows here, whoever does it."""

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

TICK_S = 0.02


class LagMeter:
    """How late the event loop wakes a sleeper that should wake every 20 ms.

    Args:
        keep: the newest values that are kept; None: all.

    Attributes:
        lags_s: one value per tick.
    """

    def __init__(self, keep: int | None = None) -> None:
        self.lags_s: deque[float] = deque(maxlen=keep)
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._due = asyncio.get_running_loop().time() + TICK_S
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._task is not None:
            # A loop that was blocked to the very end has not ticked since: that is its lag.
            self._note(asyncio.get_running_loop().time())
            self._task.cancel()
            await asyncio.wait([self._task])

    def p99_s(self) -> float:
        """Of the values that are kept; 0 before the first."""
        found = sorted(self.lags_s)
        return found[int(0.99 * (len(found) - 1))] if found else 0.0

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self._note(loop.time())

    def _note(self, now: float) -> None:
        self.lags_s.append(max(0.0, now - self._due))
