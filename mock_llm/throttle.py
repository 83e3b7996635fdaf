"""Requests per minute over a sliding window: exact.

Theory of operation. A window remembers when each of its admissions expires: one at t counts in
[t, t + window_s), so that no half-open window of that length, wherever it begins, ever holds more
than `limit` (a bucket that refills would let up to twice as many through), and a place frees when
the oldest one leaves.
"""

from collections import OrderedDict, deque
from math import inf, nextafter


class SlidingWindow:
    """One account's window.

    Attributes:
        limit: admissions in any window.
        window_s: its length.
    """

    def __init__(self, limit: int, window_s: float = 60.0) -> None:
        self.limit = limit
        self.window_s = window_s
        self._expiries: deque[float] = deque()

    def admit(self, now: float) -> float | None:
        """Count a request in and return None, or return the wait (s) until a place frees.

        `now` must not fall between calls. A retry at `now` + wait is admitted if nobody else came.
        """
        expiries = self._expiries
        while expiries and expiries[0] <= now:
            expiries.popleft()
        if len(expiries) < self.limit:
            expiries.append(now + self.window_s)
            return None
        return _wait(now, expiries[0])

    def left(self, now: float) -> tuple[int, float]:
        """Return how many more may come at once, and the wait (s) until the window is empty."""
        counted = sum(1 for expiry in self._expiries if expiry > now)
        return self.limit - counted, self._expiries[-1] - now if counted else 0.0

    def idle(self, now: float) -> bool:
        """Whether the window is empty: as good as new."""
        return not self._expiries or self._expiries[-1] <= now


def _wait(now: float, until: float) -> float:
    wait = until - now
    # Rounding can leave now + wait one ulp short of `until`, and a retry then is refused again.
    while now + wait < until:
        wait = nextafter(wait, inf)
    return wait


class AccountWindows:
    """A sliding window for each account; idle ones are dropped, which changes nothing."""

    def __init__(self, limit: int, window_s: float = 60.0) -> None:
        self.limit = limit
        self.window_s = window_s
        self._windows: OrderedDict[str, SlidingWindow] = OrderedDict()

    def admit(self, account: str, now: float) -> float | None:
        """Ask the account's window; see `SlidingWindow.admit`."""
        self._drop_idle(now)
        window = self._windows.get(account)
        if window is None:
            window = self._windows[account] = SlidingWindow(self.limit, self.window_s)
        wait = window.admit(now)
        if wait is None:
            self._windows.move_to_end(account)
        return wait

    def left(self, account: str, now: float) -> tuple[int, float]:
        """Ask the account's window without counting; see `SlidingWindow.left`."""
        window = self._windows.get(account)
        return (self.limit, 0.0) if window is None else window.left(now)

    def __len__(self) -> int:
        return len(self._windows)

    def _drop_idle(self, now: float) -> None:
        # Ordered by latest admission, so the first that is not idle ends the search.
        while self._windows and next(iter(self._windows.values())).idle(now):
            self._windows.popitem(last=False)
