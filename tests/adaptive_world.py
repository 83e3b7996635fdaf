"""A pure world for adaptive slots: endless work, a provider that can do only so much, no clock."""

import math
from collections.abc import Callable
from heapq import heappop, heappush
from typing import NamedTuple

from harness.pipeline.adaptive import AdaptiveLimit
from harness.pipeline.limits import SlidingWindow
from mock_llm.capacity import Station
from mock_llm.config import Capacity
from mock_llm.distributions import Lognormal, quantile_function
from mock_llm.rng import Keyed
from mock_llm.work_clock import WorkClock

TIMEOUT_S = 30.0
REFUSED_S = 0.05  # how long a refusal takes
WORK_S = quantile_function(Lognormal(mean=1.19, sigma=0.65))


class Fixed:
    """Slots that do not adapt."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def sample(self, now: float, latency_s: float, in_flight: int, dropped: bool) -> None:
        """See `AdaptiveLimit`."""


class Seen(NamedTuple):
    """What came of it.

    Attributes:
        ok_per_s: answers a second.
        mean_s: latency of the answers.
        refused: calls that were refused or ran out of time, as a share of all.
        slots: the limit, averaged over the ends of calls.
    """

    ok_per_s: float
    mean_s: float
    refused: float
    slots: float


class World:
    """A client with endless work and its provider, event by event.

    Whoever is refused waits out a Retry-After and a jittered second, in its slot. A call that runs
    out of time leaves the provider working on.

    Args:
        limit: of calls under way.
        capacity: of the provider.
        per_min: calls that its throttle lets through; None: all.
        slow: factor on the work of a call that begins at this moment.
    """

    def __init__(
        self,
        limit: AdaptiveLimit,
        capacity: Capacity,
        per_min: int | None = None,
        slow: Callable[[float], float] = lambda _: 1.0,
    ) -> None:
        self._limit, self._slow = limit, slow
        self._station, self._clock = Station[int](capacity), WorkClock()
        self._throttle = None if per_min is None else SlidingWindow(per_min)
        self._work = Keyed(7).stream("work")
        self._events: list[tuple[float, int, str]] = []
        self._ends: list[tuple[float, int]] = []
        self._sent: dict[int, float] = {}
        self._held = self._number = 0
        self._log: list[tuple[float, float, bool, int]] = []

    def run(self, until_s: float, since_s: float = 0.0) -> Seen:
        """Go on to a moment; tell of what ended since another."""
        now = 0.0
        while now < until_s:
            while self._held < self._limit.limit:
                self._held += 1
                self._send(now)
            ends_s = self._clock.when(self._ends[0][0]) if self._ends else math.inf
            if self._events and self._events[0][0] <= ends_s:
                now, number, kind = heappop(self._events)
                self._happen(now, number, kind)
            else:
                now = ends_s
                self._answer(now, heappop(self._ends)[1])
        return self._told([one for one in self._log if one[0] >= since_s], until_s - since_s)

    def _send(self, now: float) -> None:
        self._number += 1
        number = self._number
        self._sent[number] = now
        wait_s = self._throttle.take(now) if self._throttle else 0.0
        if wait_s > 0 or (place := self._station.enter(number, now)) == "full":
            heappush(self._events, (now + REFUSED_S, number, "refused"))
            back_s = wait_s + self._work("back", number)
            heappush(self._events, (now + REFUSED_S + back_s, number, "back"))
            return
        heappush(self._events, (now + TIMEOUT_S, number, "timeout"))
        self._begin([number] if place == "serving" else [], now)

    def _begin(self, numbers: list[int], now: float) -> None:
        self._clock.set_rate(self._station.rate, now)
        for one in numbers:
            work_s = WORK_S(self._work("w", one)) * self._slow(now)
            heappush(self._ends, (self._clock.work(now) + work_s, one))

    def _answer(self, now: float, number: int) -> None:
        if number in self._sent:
            self._ended(now, number, dropped=False)
            self._held -= 1
        self._begin(self._station.leave(number, now), now)

    def _happen(self, now: float, number: int, kind: str) -> None:
        if kind == "back":
            self._held -= 1
        elif number in self._sent:
            self._ended(now, number, dropped=True)
            self._held -= kind == "timeout"

    def _ended(self, now: float, number: int, *, dropped: bool) -> None:
        latency_s = now - self._sent.pop(number)
        self._limit.sample(now, latency_s, self._held, dropped)
        self._log.append((now, latency_s, dropped, self._limit.limit))

    @staticmethod
    def _told(log: list[tuple[float, float, bool, int]], length_s: float) -> Seen:
        good = [latency_s for _, latency_s, dropped, _ in log if not dropped]
        return Seen(
            len(good) / length_s,
            sum(good) / max(1, len(good)),
            1 - len(good) / max(1, len(log)),
            sum(slots for *_, slots in log) / max(1, len(log)),
        )
