"""What policies need to say of time: how much happened of late, and how long it is until then."""

from collections import deque
from math import floor, inf, nextafter

BUCKETS = 100


def wait_until(at_s: float, now: float) -> float:
    """Return the seconds from now until a moment, 0 when it is past.

    Whoever waits so long is not early by a rounding: `now` plus the wait is at least the moment.
    """
    if now >= at_s:
        return 0.0
    wait_s = at_s - now
    while now + wait_s < at_s:
        wait_s = nextafter(wait_s, inf)
    return wait_s


class RecentCount:
    """How many of late, in buckets of a hundredth of the window: memory does not grow.

    What falls out of the window does so a bucket at a time: counted is what happened in the last
    `buckets` hundredths, the one that has just begun included.

    Args:
        window_s: what a hundred buckets last.
        buckets: that are counted; with one more than 100, all of any window is.
    """

    def __init__(self, window_s: float, buckets: int = BUCKETS) -> None:
        self._per_s = BUCKETS / window_s
        self._buckets = buckets
        self._counts: deque[tuple[int, int]] = deque()
        self._total = 0

    def total(self, now: float) -> int:
        """Return how many there were of late; `now` never goes back."""
        oldest = floor(now * self._per_s) - self._buckets
        counts = self._counts
        while counts and counts[0][0] <= oldest:
            self._total -= counts.popleft()[1]
        return self._total

    def add(self, now: float) -> None:
        """Count one."""
        self.total(now)
        bucket, count = floor(now * self._per_s), 0
        if self._counts and self._counts[-1][0] == bucket:
            count = self._counts.pop()[1]
        self._counts.append((bucket, count + 1))
        self._total += 1
