"""The client's connections, as aiohttp's connector keeps them: pooled, or one for each call.

Idle connections are used again the longest idle first, for 15 s; a limit makes callers wait in
order (aiohttp 3.14, `BaseConnector`). Setting one up takes the client no time: the provider adds
it to its first answer.
"""

from collections import deque
from math import ceil

from harness.engines.twin.clock import LATE, Clock, Flow, Late, Limit, Turn

KEEP_ALIVE_S = 15.0
"""aiohttp's default."""


class Pool:
    """Connections of one client.

    Args:
        clock: of the run.
        keep: use connections again.
        most: open at once; None: no limit.

    Attributes:
        is_bounded: callers may have to wait.
    """

    def __init__(self, clock: Clock, *, keep: bool, most: int | None) -> None:
        self._clock = clock
        self._keep = keep
        self._most = most if keep else None
        self.is_bounded = self._most is not None
        self._idle: deque[float] = deque()  # since when
        self._in_use = 0
        self._waiting: deque[Turn] = deque()
        self._cleaning = False

    @property
    def is_full(self) -> bool:
        """Whether a caller has to wait."""
        return self._most is not None and self._in_use >= self._most

    def take(self, now: float) -> bool:
        """Take a connection; return whether it is new."""
        self._in_use += 1
        idle = self._idle
        while idle:
            if now - idle.popleft() <= KEEP_ALIVE_S:
                return False
        return True

    def wait(self, limit: Limit | None) -> Flow[Late | None]:
        """Wait until there is room; returns `LATE` if there is none in time."""
        first = True
        while self.is_full:
            turn = self._clock.turn()
            if first:
                self._waiting.append(turn)
            else:  # somebody was quicker
                self._waiting.appendleft(turn)
            first = False
            try:
                found: object = yield from self._clock.wait(turn, limit)
            except BaseException:
                self._forget(turn)
                raise
            if found is LATE:
                self._forget(turn)
                return LATE
        return None

    def _forget(self, turn: Turn) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)

    def give_back(self, *, sound: bool) -> None:
        """A call has done with its connection, which may be used again if it is sound."""
        self._in_use -= 1
        if sound and self._keep:
            now = self._clock.now_s
            self._idle.append(now)
            if not self._cleaning:
                self._clean_later(now)
        while self._waiting and not self.is_full:
            turn = self._waiting.popleft()
            if not turn.triggered:
                turn.succeed()
                return

    def _clean_later(self, now: float) -> None:
        """Have idle connections closed: a timer of the client's, which can be the last of a run."""
        self._cleaning = True
        self._clock.call_at(float(ceil(now + KEEP_ALIVE_S)), self._clean)

    def _clean(self) -> None:
        self._cleaning = False
        now = self._clock.now_s
        while self._idle and self._idle[0] < now - KEEP_ALIVE_S:
            self._idle.popleft()
        if self._idle:
            self._clean_later(now)
