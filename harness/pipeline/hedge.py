"""When to send a second call, and how many of them: hedged requests.

Dean and Barroso, "The tail at scale", CACM 56(2), 2013: wait for the 95th percentile of the
latency, then ask once more, and take what comes first. That costs 5 % more calls and cuts off the
tail. It helps against what befell one call, a hang or a slow machine; a provider that is slow for
all gets even slower by it, so hedges are capped as well.
"""

from bisect import bisect_left, insort
from collections import deque
from math import ceil

from harness.scenario.resilience import Hedge

REMEMBERED = 1_000  # latencies, and calls whose unused share may be spent later
_ROUNDING = 1e-9


class Hedger:
    """The delay of the second call, and the cap on second calls.

    Since the beginning there are at most `share` hedges a call, and of any n calls in a row at most
    `share` times (n + 1,000), so that a long quiet time does not pay for a flood.
    """

    def __init__(self, settings: Hedge) -> None:
        self._set = settings
        self._latencies: deque[float] = deque()
        # Sorted: finding a place is O(log n), making room moves 8 kB at most.
        self._sorted: list[float] = []
        self._unspent = 0.0
        self._price = 1 / settings.share if settings.share else float("inf")

    def sample(self, latency_s: float) -> None:
        """An answer took so long; the last 1,000 of them count."""
        self._latencies.append(latency_s)
        insort(self._sorted, latency_s)
        if len(self._latencies) > REMEMBERED:
            del self._sorted[bisect_left(self._sorted, self._latencies.popleft())]

    def delay_s(self) -> float | None:
        """Return how long to wait for the first call, in seconds; None: too little is known."""
        count = len(self._sorted)
        if count < self._set.min_samples:
            return None
        # The smallest latency that a share of at least `quantile` does not exceed (nearest rank).
        return self._sorted[max(0, ceil(self._set.quantile * count - _ROUNDING) - 1)]

    def may_hedge(self) -> bool:
        """Whether one more hedge stays within the cap."""
        return self._unspent + _ROUNDING >= self._price

    def sent(self) -> None:
        """A first call was sent."""
        self._unspent = min(self._unspent + 1, max(REMEMBERED, self._price))

    def hedged(self) -> None:
        """A hedge was sent."""
        self._unspent -= self._price
