"""The connections between those who ask and the service: no time, but an order.

Theory of operation. Over HTTP nothing takes virtual time, but it takes longer than all else that
happens at the same instant. What is sent over several connections at once, in one turn of the loop,
is read in the order in which they were opened; else who sends first is read first. An idle
connection is taken up again by whoever asks next, the one that has rested longest first.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from harness.engines.twin.clock import Clock


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
        self._sent: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._due = (self._turn, ())

    def take(self) -> int:
        """A connection for a call: its number."""
        now = self._clock.now_s
        while self._idle:
            number, since_s = self._idle.popleft()
            if now - since_s <= self._keep_s:
                return number
        self._opened += 1
        return self._opened

    def give_back(self, number: int) -> None:
        """The call is over."""
        self._idle.append((number, self._clock.now_s))

    def carry(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function when all else has happened that happens now; first, its connection."""
        sent = self._sent
        if not sent:
            self._clock.soon(self._due)
        sent.append((function, args))

    def carry_last(self, function: Callable[..., object], *args: Any) -> None:
        """The same, by whoever does no more now: alone at this moment, it needs no order."""
        if self._clock.is_ready():
            self.carry(function, *args)
        else:
            self._clock.last((function, args))

    def _turn(self) -> None:
        sent, self._sent = self._sent, []
        if len(sent) > 1:
            sent.sort(key=lambda one: one[1][0])
        last = self._clock.last
        for one in sent:
            last(one)
