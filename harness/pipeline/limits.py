"""The per-user limit as a sliding-window log: exact, where a token bucket lets twice as many by."""

from collections import deque


class SlidingWindow:
    """At most `limit` starts in any `window_s`; later ones are given a later start, in order."""

    def __init__(self, limit: int, window_s: float = 60.0) -> None:
        self._starts: deque[float] = deque(maxlen=limit)
        self._window_s = window_s

    def reserve(self, now: float) -> float:
        """The moment at which the caller may start; it is booked."""
        starts = self._starts
        start = now
        if len(starts) == starts.maxlen:
            # A start exactly one window later shares no half-open window with the earlier one.
            start = max(now, starts[0] + self._window_s)
        starts.append(start)
        return start


class UserLimits:
    """One window per user."""

    def __init__(self, limit: int, window_s: float = 60.0) -> None:
        self._limit = limit
        self._window_s = window_s
        self._users: dict[str, SlidingWindow] = {}

    def reserve(self, user: str, now: float) -> float:
        """See `SlidingWindow.reserve`."""
        window = self._users.get(user)
        if window is None:
            window = self._users[user] = SlidingWindow(self._limit, self._window_s)
        return window.reserve(now)
