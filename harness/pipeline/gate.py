"""Slots whose number adapts, first come, first served."""

import asyncio
from collections import deque
from typing import Protocol

from harness.pipeline.adaptive import AdaptiveLimit


class Turn(Protocol):
    """What somebody waits for: a future, or an event of a simulation."""

    def done(self) -> bool:
        """Whether it has come, or is not waited for any more."""

    def set_result(self, result: None, /) -> object:
        """Let it come."""


class Gate:
    """Lets so many through at once as an adaptive limit allows at the moment.

    Attributes:
        in_flight: who is through.
    """

    def __init__(self, limit: AdaptiveLimit) -> None:
        self.in_flight = 0
        self._limit = limit
        self._waiting: deque[Turn] = deque()

    @property
    def limit(self) -> int:
        """How many may be through at once, for now."""
        return self._limit.limit

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(not turn.done() for turn in self._waiting)

    def opens(self) -> bool:
        """Take a slot if one is free, and nobody waits for it."""
        free = self.in_flight < self.limit and not self.waiting
        self.in_flight += free
        return free

    def queue(self, turn: Turn) -> None:
        """Be told when a slot has been given to this turn."""
        self._waiting.append(turn)

    async def enter(self) -> None:
        """Wait for a slot."""
        if self.opens():
            return
        turn = asyncio.get_running_loop().create_future()
        self.queue(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._free()  # it was given away at this very moment
            raise

    def leave(self) -> None:
        """Give a slot back that has told nothing."""
        self._free()

    def ended(self, now: float, latency_s: float, *, dropped: bool) -> None:
        """Give a slot back, and say how it went; see `AdaptiveLimit.sample`."""
        self._limit.sample(now, latency_s, self.in_flight, dropped)
        self._free()

    def _free(self) -> None:
        self.in_flight -= 1
        while self._waiting and self.in_flight < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():  # else whoever waited has left
                self.in_flight += 1
                turn.set_result(None)
