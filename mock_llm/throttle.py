"""Requests and tokens per minute, exact, and attempts under way at once.

Theory of operation. A window remembers until when each admission counts: to the end of its own
minute (`sliding`: one at t counts in [t, t + 60), so that no half-open minute, wherever it begins,
ever holds more than the limit; a bucket that refills would let up to twice as many through), or to
the end of the minute it falls in, as counted since the run began (`fixed`). It asks nothing but
what still counts, so the wait until enough leaves is known exactly.
"""

from collections import Counter, OrderedDict, deque
from math import inf, nextafter

from mock_llm.config import Throttle

MINUTE_S = 60.0


class Entry:
    """What one attempt counts in a window, and until when."""

    __slots__ = ("amount", "until_s", "window")

    def __init__(self, window: "Window", until_s: float, amount: int) -> None:
        self.window: Window | None = window
        self.until_s, self.amount = until_s, amount

    def settle(self, amount: int) -> None:
        """Count what was really used in place of what was reserved, as long as it counts."""
        if self.window is not None:
            self.window.used += amount - self.amount
            self.amount = amount


class Window:
    """One caller's window over one thing.

    Attributes:
        limit: of what counts at any time.
        used: what counted when it was last asked.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._entries: deque[Entry] = deque()

    def wait_s(self, now: float, amount: int = 1) -> float | None:
        """Return None if there is room for an amount, else how long until there is.

        A retry at `now` + wait finds room if nobody else came. The wait is infinite for more than
        the limit. `now` must not fall between calls.
        """
        self._forget(now)
        excess = self.used + amount - self.limit
        if excess <= 0:
            return None
        if amount > self.limit:
            return inf
        for entry in self._entries:
            excess -= entry.amount
            if excess <= 0:
                return _wait_s(now, entry.until_s)
        raise AssertionError("entries add up to what is used")

    def take(self, until_s: float, amount: int = 1) -> Entry:
        """Count an amount until a time, which must not fall between calls."""
        entry = Entry(self, until_s, amount)
        self._entries.append(entry)
        self.used += amount
        return entry

    def left(self, now: float) -> tuple[int, float]:
        """Return how much more may be counted at once, and the wait (s) until nothing counts."""
        self._forget(now)
        left = max(self.limit - self.used, 0)
        return left, self._entries[-1].until_s - now if self._entries else 0.0

    def idle(self, now: float) -> bool:
        """Whether nothing counts: it is as good as new."""
        return not self._entries or self._entries[-1].until_s <= now

    def _forget(self, now: float) -> None:
        entries = self._entries
        while entries and entries[0].until_s <= now:
            gone = entries.popleft()
            self.used -= gone.amount
            gone.window = None


def _wait_s(now: float, until_s: float) -> float:
    wait_s = until_s - now
    # Rounding can leave now + wait one ulp short of the end, and a retry then is refused again.
    while now + wait_s < until_s:
        wait_s = nextafter(wait_s, inf)
    return wait_s


class Windows:
    """A window for each caller; idle ones are dropped, which changes nothing."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._windows: OrderedDict[str, Window] = OrderedDict()

    def wait_s(self, caller: str, now: float, amount: int = 1) -> float | None:
        """Ask the caller's window; see `Window.wait_s`."""
        # Ordered by latest admission, so the first that is not idle ends the search.
        while self._windows and next(iter(self._windows.values())).idle(now):
            self._windows.popitem(last=False)
        return self._windows.get(caller, Window(self.limit)).wait_s(now, amount)

    def take(self, caller: str, until_s: float, amount: int = 1) -> Entry:
        """Count in the caller's window; see `Window.take`."""
        window = self._windows.setdefault(caller, Window(self.limit))
        self._windows.move_to_end(caller)
        return window.take(until_s, amount)

    def left(self, caller: str, now: float) -> tuple[int, float]:
        """Ask the caller's window without counting; see `Window.left`."""
        window = self._windows.get(caller)
        return (self.limit, 0.0) if window is None else window.left(now)

    def __len__(self) -> int:
        return len(self._windows)


def counts_until_s(window: str, now: float, began: float) -> float:
    """Return until when an admission now counts; see `mock_llm.config.Throttle.window`."""
    if window == "sliding":
        return now + MINUTE_S
    until_s = began + ((now - began) // MINUTE_S + 1) * MINUTE_S
    return until_s if until_s > now else until_s + MINUTE_S  # where rounding has put it on now


class Limits:
    """The limits of a throttle, and what counts against them.

    Attributes:
        settings: the throttle.
        under_way: attempts of each caller.
    """

    def __init__(self, settings: Throttle, before: "Limits | None" = None) -> None:
        """Take over from the limits before whatever is limited as it was."""
        self.settings = settings
        self.under_way: Counter[str] = Counter() if before is None else before.under_way
        if before is not None and _counted(before.settings) != _counted(settings):
            before = None
        requests, tokens = (None, None) if before is None else (before.requests, before.tokens)
        self.requests: Windows | None = _windows(settings.requests_per_min, requests)
        self.tokens: Windows | None = _windows(settings.tokens_per_min, tokens)

    def caller(self, account: str) -> str:
        """Return by whom is counted: the key, or one name for all."""
        return account if self.settings.per == "key" else ""

    def wait_s(self, caller: str, now: float, tokens: int) -> tuple[float, int] | None:
        """Return None if there is room for an attempt, else the wait (s) and the limit it meets.

        The wait is the longest of those for requests and tokens, each exact. It is infinite where
        it cannot be known: when all places for attempts under way are taken, for nobody knows when
        one ends, and for more tokens than the limit.
        """
        most = self.settings.concurrent
        if most is not None and self.under_way[caller] >= most:
            return inf, most
        asked = ((self.requests, 1), (self.tokens, tokens))
        waits = [
            (wait, windows.limit)
            for windows, amount in asked
            if windows is not None and (wait := windows.wait_s(caller, now, amount)) is not None
        ]
        return max(waits, default=None)


def _counted(settings: Throttle) -> tuple[str, str]:
    return settings.window, settings.per


def _windows(limit: int | None, before: Windows | None) -> Windows | None:
    if limit is None:
        return None
    return before if before is not None and before.limit == limit else Windows(limit)
