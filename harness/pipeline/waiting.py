"""The service's queue: who waits, who is refused at once, who is next.

Theory of operation. A queue is worth its length only while those at its end can still be answered
in time: 50 workers at 1.19 s serve 42 requests a second, so of 10,000 waiting the last waits 238 s,
and with 30 s to live everything behind the first (30 - 1.19) * 42 = 1,210 is work for nobody. So a
newcomer whose answer would come too late is refused at once, with the time after which it would
not be. The estimate is work ahead times its mean duration, over the workers; and because what is
let in with no time to spare is called, paid for and late half of the time, there has to be room for
bad luck too: two standard deviations of the wait, and of the service itself. Whoever has had worse
luck, and is left with less time than the mean service takes, gives up its place unserved.

Interactive requests go before batch items, which have nobody waiting in front of a screen. Among
interactive ones there is no fairness between users: the limit per user, before this queue, bounds
what one of them can put here to 100 a minute, and turns between users would break the one promise
that makes an estimate at the door true: that nobody who comes later goes first. Batch items give
way to all interactive requests, so theirs is a hope.
"""

from collections import OrderedDict
from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from itertools import count
from math import floor, inf, sqrt
from typing import Generic, Literal, NamedTuple, TypeVar

import msgspec

from harness.scenario.resilience import Queue

T = TypeVar("T", bound=Hashable)

LUCK = 2.0
"""Standard deviations that a deadline must leave room for: about 19 of 20 are then in time."""

NEWEST = 0.02
"""Share of the newest service time in the mean: it is that of the last 50 or so. With the crisis's
lognormal (sigma .65) it scatters by 7 %."""

UNKNOWN_S = 1.0
"""A full queue's Retry-After before any request was served, seconds."""

_ROUNDING = 1e-9


class Refusal(NamedTuple):
    """Why a request may not wait.

    Attributes:
        reason: `full`: there is no room; `too_late`: its answer would come after its deadline.
        retry_after_s: after which the same request, with as much time to live, would be let in, if
            nobody else came and the workers were as quick as they are on average.
    """

    reason: Literal["full", "too_late"]
    retry_after_s: float


class _Waiting(msgspec.Struct, frozen=True, gc=False):
    since_s: float
    deadline_s: float
    number: int


class WaitingRoom(Generic[T]):
    """Those who wait for a worker. Everything takes O(log n) steps or fewer, amortised.

    A ticket is whatever tells one request from another; one that is handed in waits until `take`,
    `expired` or `remove` hands it out, and each is handed out once. `now` never goes back.

    Attributes:
        workers: how many serve; may be set at any time.
        mean_s: present estimate of the mean service time, seconds; 0: nothing was served yet.
        sd_s: of its standard deviation.
    """

    def __init__(self, settings: Queue, workers: int) -> None:
        self.workers = workers
        self.mean_s = self.sd_s = 0.0
        self._set = settings
        self._lifo = settings.order == "lifo_when_late"
        self._served = 0
        self._spent_s = self._answered = 0.0
        self._interactive: OrderedDict[T, _Waiting] = OrderedDict()
        self._batch: OrderedDict[T, _Waiting] = OrderedDict()
        self._late: OrderedDict[T, None] = OrderedDict()
        self._deadlines: list[tuple[float, int, T]] = []
        self._numbers = count()

    @property
    def depth(self) -> int:
        """How many wait."""
        return len(self._interactive) + len(self._batch)

    def oldest_age_s(self, now: float) -> float:
        """Return how long the oldest has waited, 0 when nobody waits."""
        return max(self._age_s(line, now) for line in (self._interactive, self._batch))

    def wait_s(self, now: float, *, interactive: bool = True) -> float:
        """Return how long a newcomer is likely to wait: work ahead times its mean, by workers."""
        return self._ahead(now, interactive=interactive) * self.mean_s / self.workers

    def useful_depth(self, deadline_s: float) -> int:
        """Return how many may be ahead of one who has so many seconds to live."""
        if self.mean_s <= 0:
            return self._set.size
        # n ahead take n m / c, give or take sd sqrt(n) / c: a quadratic in sqrt(n).
        spare = (deadline_s - self.mean_s - LUCK * self.sd_s) * self.workers / self.mean_s
        half = LUCK * self.sd_s / self.mean_s / 2
        if spare < 0:
            return 0
        places = (sqrt(half * half + spare) - half) ** 2
        return min(self._set.size, floor(places + _ROUNDING))

    def offer(
        self, ticket: T, now: float, deadline: float | None, interactive: bool, idle: int = 0
    ) -> Refusal | None:
        """Let a request wait, or say why not.

        Nobody is refused as too late who would be next: else, after a slow spell, an old estimate
        could refuse everybody and would never be mended.

        Args:
            ticket: of the request.
            now: the moment.
            deadline: the moment at which its answer is worth nothing any more; None: never.
            interactive: whether it goes before batch items.
            idle: workers that are free for it and for those ahead; they need no place.

        Raises:
            ValueError: it waits already.
        """
        if self._deadlines:
            self._sort_out(now)
        if ticket in self._interactive or ticket in self._batch or ticket in self._late:
            raise ValueError("this ticket waits already: hand in each only once")
        surplus = len(self._interactive) + len(self._batch) - idle - self._set.size + 1
        late_by = 0
        if deadline is not None and self._set.useful_only:
            ahead = self._ahead(now, interactive=interactive) - idle
            late_by = ahead - self.useful_depth(deadline - now)
        if surplus > 0 or late_by > 0:
            one_s = self.mean_s / self.workers or UNKNOWN_S
            reason: Literal["full", "too_late"] = "full" if surplus > 0 else "too_late"
            return Refusal(reason, max(surplus, late_by) * one_s)
        waiting = _Waiting(now, inf if deadline is None else deadline, next(self._numbers))
        (self._interactive if interactive else self._batch)[ticket] = waiting
        if deadline is not None:
            heappush(self._deadlines, (deadline, waiting.number, ticket))
        return None

    def take(self, now: float) -> T | None:
        """Return the next to be served, which waits no more; None: nobody waits."""
        if self._deadlines:
            self._sort_out(now)
        line = self._interactive or self._batch
        if not line:
            return None
        return line.popitem(last=self._lifo and self._newest_first(line, now))[0]

    def expired(self, now: float) -> list[T]:
        """Return those whose time has run out while they waited, who wait no more."""
        if self._deadlines:
            self._sort_out(now)
        if not self._late:
            return []
        late = list(self._late)
        self._late.clear()
        return late

    def remove(self, ticket: T) -> bool:
        """Let go of a ticket; return whether it was here."""
        for line in (self._interactive, self._batch, self._late):
            if ticket in line:
                del line[ticket]
                return True
        return False

    def served(self, service_s: float, answered: bool = True) -> None:
        """A worker has spent so many seconds on a request, its waiting not included.

        What ended without an answer, at its deadline say, might have taken any time longer: its
        seconds count and it does not, so that cutting requests short makes no service look quick
        (for exponential times this is the maximum likelihood estimate under censoring).
        """
        self._served = served = self._served + 1
        # At first a plain average, so that the first sample does not weigh for long.
        share = NEWEST if served * NEWEST > 1 else 1 / served
        self._spent_s = spent_s = self._spent_s + share * (service_s - self._spent_s)
        self._answered = sound = self._answered + share * (answered - self._answered)
        off = service_s - self.mean_s
        self.mean_s = spent_s / (sound if sound > share else share)  # noqa: FURB136 - half of max
        if answered:
            # West, "Updating mean and variance estimates", CACM 22(9), 1979, for falling weights.
            sd_s = self.sd_s
            self.sd_s = sqrt((1 - share) * (sd_s * sd_s + share * off * off))

    def _ahead(self, now: float, *, interactive: bool) -> int:
        own = self._interactive if interactive else self._batch
        before = 0 if self._newest_first(own, now) else len(own)
        return before if interactive else before + len(self._interactive)

    def _newest_first(self, line: OrderedDict[T, _Waiting], now: float) -> bool:
        return self._lifo and self._age_s(line, now) > self._set.late_s

    def _age_s(self, line: OrderedDict[T, _Waiting], now: float) -> float:
        return now - next(iter(line.values())).since_s if line else 0.0

    def _sort_out(self, now: float) -> None:
        """Put those aside who come too late; forget the deadlines of those who have left."""
        heap = self._deadlines
        just_come: list[tuple[float, int, T]] = []
        spare_s = self.mean_s if self._set.useful_only else 0.0
        while heap and heap[0][0] <= now + spare_s:
            deadline, number, ticket = heappop(heap)
            line = self._line_of(ticket, number)
            if line is None:
                continue
            if line[ticket].since_s == now < deadline:
                just_come.append((deadline, number, ticket))  # and may still be served at once
                continue
            del line[ticket]
            self._late[ticket] = None
        for one in just_come:
            heappush(heap, one)
        if len(heap) > 2 * self.depth + 64:
            heap[:] = [one for one in heap if self._line_of(one[2], one[1]) is not None]
            heapify(heap)

    def _line_of(self, ticket: T, number: int) -> OrderedDict[T, _Waiting] | None:
        for line in (self._interactive, self._batch):
            waiting = line.get(ticket)
            if waiting is not None and waiting.number == number:
                return line
        return None
