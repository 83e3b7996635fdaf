"""Durations in fixed logarithmic buckets: cheap to fill, and those of several processes add up."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Self, TypeVar

import msgspec

Key = TypeVar("Key")

PER_DECADE = 40
BOUNDS_S: tuple[float, ...] = (
    1e-9,  # what rounding leaves of nothing
    *(round(1e-4 * 10 ** (step / PER_DECADE), 12) for step in range(7 * PER_DECADE + 1)),
)
"""Upper ends of the buckets, from 0.1 ms to 1,000 s, each 6 % above the one before, seconds."""


class Histogram(msgspec.Struct):
    """How many durations fell into which bucket.

    Attributes:
        counts: by the bucket's place in `BOUNDS_S`; beyond its end lies all that is longer.
        sum_s: of all durations.
        max_s: the longest, 0 when there is none.
    """

    counts: dict[int, int] = {}
    sum_s: float = 0.0
    max_s: float = 0.0

    def add(self, duration_s: float) -> None:
        """Count a duration; what is below 0 counts as 0."""
        bucket = bisect_left(BOUNDS_S, duration_s)
        try:
            self.counts[bucket] += 1
        except KeyError:
            self.counts[bucket] = 1
        if duration_s > 0:
            self.sum_s += duration_s
            if duration_s > self.max_s:  # noqa: PLR1730 - a call of max takes twice as long
                self.max_s = duration_s

    @property
    def count(self) -> int:
        """How many durations there are."""
        return sum(self.counts.values())

    def above(self, bound_s: float) -> int:
        """How many are longer than a bound, to the bucket that has it."""
        first = bisect_left(BOUNDS_S, bound_s) + 1
        return sum(count for bucket, count in self.counts.items() if bucket >= first)

    def quantile(self, share: float) -> float:
        """The duration that a share of all does not exceed, within 6 %; 0 when there is none."""
        rank = share * self.count
        for bucket in sorted(self.counts):
            count = self.counts[bucket]
            if rank <= count:
                low, high = _ends_s(bucket, self.max_s)
                return min(low + (high - low) * rank / count, self.max_s)
            rank -= count
        return self.max_s

    def up_to(self) -> list[tuple[float, int]]:
        """Cumulated counts at the bucket ends, four a decade, as Prometheus wants them."""
        ends = BOUNDS_S[1 :: PER_DECADE // 4]
        total = self.count
        return [(end, total - self.above(end)) for end in ends]

    @classmethod
    def sum_of(cls, parts: Iterable[Self]) -> Self:
        """One histogram of what several have counted."""
        whole = cls()
        for part in parts:
            add_up(whole.counts, part.counts)
            whole.sum_s += part.sum_s
            whole.max_s = max(whole.max_s, part.max_s)
        return whole


def _ends_s(bucket: int, max_s: float) -> tuple[float, float]:
    if bucket == 0:
        return 0.0, 0.0
    low = BOUNDS_S[bucket - 1]
    return low, BOUNDS_S[bucket] if bucket < len(BOUNDS_S) else max_s


def add_up(into: dict[Key, int], counts: dict[Key, int]) -> None:
    """Add counts to those that there are."""
    for key, count in counts.items():
        into[key] = into.get(key, 0) + count
