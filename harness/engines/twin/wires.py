"""The connections between those who ask and the service: no time, but an order.

Theory of operation. Over HTTP nothing takes virtual time, but it takes longer than all else that
happens at the same instant. What comes over several connections at once is read in the order in
which they were opened, and what it leads to comes after all of it: in the next round. An idle
connection is taken up again by whoever asks next, the one that has rested longest first.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from harness.engines.twin.clock import Clock

_MOST = 10**9  # connections; what is carried in one round comes before all of the next


class Wires:
    """The connections of one run.

    Args:
        clock: of the run.
        keep_s: how long an idle one is kept.
    """

    def __init__(self, clock: Clock, keep_s: float) -> None:
        self._clock, self._keep_s = clock, keep_s
        self._idle: deque[tuple[int, float]] = deque()
        self._opened = 0
        self._instant, self._round = -1.0, 0

    def take(self) -> int:
        """A connection for a call: its number."""
        now = self._clock.time()
        while self._idle:
            number, since_s = self._idle.popleft()
            if now - since_s <= self._keep_s:
                return number
        self._opened += 1
        return self._opened

    def give_back(self, number: int) -> None:
        """The call is over."""
        self._idle.append((number, self._clock.time()))

    def carry(self, number: int, function: Callable[..., object], *args: Any) -> None:
        """Call a function when all else has happened that happens now."""
        after = self._round + 1 if self._instant == self._clock.time() else 0
        self._clock.call_last(after * _MOST + number, self._come, after, function, args)

    def _come(self, nth: int, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._instant, self._round = self._clock.time(), nth
        function(*args)
