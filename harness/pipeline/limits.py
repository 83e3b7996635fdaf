"""Limits per user: a log of the last minute, which is exact, or an even pace after a burst."""

from collections import OrderedDict, deque
from typing import Literal, Protocol

from harness.pipeline.moments import wait_until


class Limiter(Protocol):
    """What counts the requests of one user."""

    @property
    def idle_at_s(self) -> float:
        """From when on it does as a new one would."""

    def reserve(self, now: float) -> float:
        """The moment at which the caller may start; it is booked."""

    def take(self, now: float) -> float:
        """Admit and count a request, or return the seconds until one would be admitted.

        0 is admitted. Anything else is a true Retry-After: nothing is counted, and who comes back
        after just so long, with nobody in between, is admitted; who comes earlier is not.
        """


class SlidingWindow:
    """At most `limit` starts in any `window_s`; later ones are given a later start, in order."""

    def __init__(self, limit: int, window_s: float = 60.0) -> None:
        self._starts: deque[float] = deque(maxlen=limit)
        self._window_s = window_s

    @property
    def idle_at_s(self) -> float:
        """See `Limiter`."""
        return self._starts[-1] + self._window_s if self._starts else 0.0

    def reserve(self, now: float) -> float:
        """The moment at which the caller may start; it is booked."""
        start = max(now, self._next_s(now))
        self._starts.append(start)
        return start

    def take(self, now: float) -> float:
        """See `Limiter`."""
        wait_s = wait_until(self._next_s(now), now)
        if wait_s == 0:
            self._starts.append(now)
        return wait_s

    def _next_s(self, now: float) -> float:
        if len(self._starts) < (self._starts.maxlen or 0):
            return now
        # A start exactly one window later shares no half-open window with the earlier one.
        return self._starts[0] + self._window_s


class Gcra:
    """`limit` at once, then one each `window_s / limit`: the generic cell rate algorithm.

    ITU-T I.371, annex A, as virtual scheduling with a burst of `limit`. It remembers two numbers
    where the log remembers every start, and paces what comes after the burst; but it lets twice
    the limit by in a first window.
    """

    def __init__(self, limit: int, window_s: float = 60.0) -> None:
        self._limit = limit
        self._gap_s = window_s / limit
        # The theoretical arrival time is a product, not a sum, so that roundings do not add up.
        self._since, self._count = float("-inf"), 0

    @property
    def idle_at_s(self) -> float:
        """See `Limiter`."""
        return self._since + self._count * self._gap_s

    def reserve(self, now: float) -> float:
        """See `SlidingWindow.reserve`."""
        start = max(now, self._next_s(now))
        self._count += 1
        return start

    def take(self, now: float) -> float:
        """See `Limiter`."""
        wait_s = wait_until(self._next_s(now), now)
        if wait_s == 0:
            self._count += 1
        return wait_s

    def _next_s(self, now: float) -> float:
        if now >= self.idle_at_s:
            self._since, self._count = now, 0
        return self._since + max(0, self._count + 1 - self._limit) * self._gap_s


KINDS: dict[str, type[SlidingWindow] | type[Gcra]] = {"sliding": SlidingWindow, "gcra": Gcra}


class UserLimits:
    """One limit per user; whoever was idle for long enough to be as new is forgotten.

    Args:
        limit: requests in a window.
        window_s: how long it is.
        kind: `sliding` or `gcra`, as above.
    """

    def __init__(
        self, limit: int, window_s: float = 60.0, kind: Literal["sliding", "gcra"] = "sliding"
    ) -> None:
        self._limit = limit
        self._window_s = window_s
        self._kind = KINDS[kind]
        self._users: OrderedDict[str, Limiter] = OrderedDict()

    def __len__(self) -> int:
        """How many users are remembered."""
        return len(self._users)

    def reserve(self, user: str, now: float) -> float:
        """See `SlidingWindow.reserve`."""
        return self._of(user, now).reserve(now)

    def take(self, user: str, now: float) -> float:
        """See `Limiter.take`."""
        return self._of(user, now).take(now)

    def _of(self, user: str, now: float) -> Limiter:
        users = self._users
        limiter = users.get(user)
        if limiter is None:
            limiter = users[user] = self._kind(self._limit, self._window_s)
        users.move_to_end(user)
        # Those not seen for longest come first, so this looks at no more than it forgets, and one.
        while (oldest := next(iter(users))) != user and users[oldest].idle_at_s <= now:
            del users[oldest]
        return limiter
