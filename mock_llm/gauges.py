"""What a mock has done, as figures: over all its time, and second by second over the last minute.

Theory of operation. A row that ends is counted once, into the tally of its second. Seconds older
than a minute are added to one tally of all that is past. So a request costs a few additions, and
whoever wants to see the figures pays for adding the seconds up. Tallies of several processes add up
in the same way.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Self

import msgspec

from mock_llm.histogram import Histogram, add_up

WINDOW_S = 60
MOST_LABELS = 256
"""Labels kept apart in one tally: a client that makes names up must not fill the memory."""
OTHER = "(other)"


class Tally(msgspec.Struct):
    """Figures of some time.

    Attributes:
        attempts: that ended.
        prompt_tokens: of these, as counted.
        completion_tokens: as billed.
        billed_usd: dollars.
        throttled: refused with 429, and no fault had a hand in it.
        outcomes: attempts by `status ended model`; see `outcome`.
        faults: how often each fired, when it fired.
        latency: from an attempt's head to its end, whatever the end.
        delay: of answers: how much later than planned they began.
        late: answers whose delay was more than allowed; see `fidelity`.
        planned_s: sum of the planned delays of the answers.
        lag: of the event loop, sampled evenly while anybody asked.
    """

    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    billed_usd: float = 0.0
    throttled: int = 0
    outcomes: dict[str, int] = {}
    faults: dict[str, int] = {}
    latency: Histogram = msgspec.field(default_factory=Histogram)
    delay: Histogram = msgspec.field(default_factory=Histogram)
    late: int = 0
    planned_s: float = 0.0
    lag: Histogram = msgspec.field(default_factory=Histogram)

    @classmethod
    def sum_of(cls, parts: Iterable[Self]) -> Self:
        """One tally of what several have counted."""
        found, whole = list(parts), cls()
        for name in _SUMS:
            setattr(whole, name, sum(getattr(one, name) for one in found))
        for name in _SPREADS:
            setattr(whole, name, Histogram.sum_of(getattr(one, name) for one in found))
        for one in found:
            add_up(whole.outcomes, one.outcomes)
            add_up(whole.faults, one.faults)
        return whole

    def by(self, part: int) -> dict[str, int]:
        """Attempts by one part of their outcome: 0 status, 1 end, 2 model."""
        found: dict[str, int] = {}
        for name, count in self.outcomes.items():
            label = name.split(" ", 2)[part]
            found[label] = found.get(label, 0) + count
        return found


_SPREADS = ("latency", "delay", "lag")
_SUMS = (
    "attempts",
    "prompt_tokens",
    "completion_tokens",
    "billed_usd",
    "throttled",
    "late",
    "planned_s",
)


def other_outcome(label: str) -> str:
    """What stands for an outcome once there are too many: the same with any model."""
    return " ".join([*label.split(" ", 2)[:2], OTHER])


def other_fault(_: str) -> str:
    """What stands for a fault once there are too many."""
    return OTHER


def tick(counts: dict[str, int], label: str, other: Callable[[str], str] = other_fault) -> None:
    """Count a label, or the one that stands for all the others once there are too many."""
    try:
        counts[label] += 1
    except KeyError:
        label = label if len(counts) < MOST_LABELS else other(label)
        counts[label] = counts.get(label, 0) + 1


class Gauges:
    """The tallies of a running mock.

    Attributes:
        cpu_share: of one core, that the process used lately; 0 when nobody measures it.
        warnings: seconds in which the mock was found to be the bottleneck.
    """

    def __init__(self) -> None:
        self.cpu_share = 0.0
        self.warnings = 0
        self._past = Tally()
        self._seconds: deque[tuple[int, Tally]] = deque()
        self._second, self._now = -1, Tally()

    def at(self, now: float) -> Tally:
        """The tally of a moment (s, of the loop); one that is past counts as the latest."""
        second = int(now)
        if second > self._second:
            self._turn(second)
        return self._now

    def total(self) -> Tally:
        """Figures of all the time."""
        return bounded(Tally.sum_of([self._past, *(tally for _, tally in self._seconds)]))

    def last(self, seconds: int, now: float) -> Tally:
        """Figures of the last whole seconds and of the one that has begun; 60 at most."""
        since = int(now) - seconds
        return bounded(Tally.sum_of(tally for second, tally in self._seconds if second >= since))

    def rates(self, now: float) -> list[int]:
        """Attempts that ended in each of the last 60 whole seconds, oldest first."""
        ended = {second: tally.attempts for second, tally in self._seconds}
        return [ended.get(second, 0) for second in range(int(now) - WINDOW_S, int(now))]

    def _turn(self, second: int) -> None:
        self._second, self._now = second, Tally()
        self._seconds.append((second, self._now))
        old = []
        while self._seconds[0][0] < second - WINDOW_S:
            old.append(self._seconds.popleft()[1])
        self._past = bounded(Tally.sum_of([self._past, *old]))


def bounded(tally: Tally) -> Tally:
    """The tally with no more labels than one second may have; the rarest are put together."""
    _spare(tally.outcomes, other_outcome)
    _spare(tally.faults, other_fault)
    return tally


def _spare(counts: dict[str, int], other: Callable[[str], str]) -> None:
    surplus = max(len(counts) - MOST_LABELS, 0)
    for label in sorted(counts, key=lambda label: counts[label])[:surplus]:
        count = counts.pop(label)
        counts[other(label)] = counts.get(other(label), 0) + count
