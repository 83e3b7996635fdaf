"""One attempt on the wire: a script played by timers, without a task of its own."""

import asyncio
from math import inf
from typing import Protocol

from mock_llm.ledger import Row
from mock_llm.pacing import Write
from mock_llm.plan import Ending, Plan
from mock_llm.playback import Playback, Script
from mock_llm.service import Alarm, Clock, Seat

SILENT: frozenset[Ending] = frozenset({"hang", "stall", "keep_alive"})
"""Endings that are none: the client waits until it leaves."""


class Over(Protocol):
    """Is told when a performance has come to its end: a future, or as good as one."""

    def done(self) -> bool:
        """Whether nobody waits for it any more."""

    def set_result(self, result: None, /) -> object:
        """It has."""

    def set_exception(self, exception: Exception, /) -> object:
        """It broke off by a fault of our own."""


class Listener(Protocol):
    """Whoever is sent the answer: a connection's client."""

    left_s: float | None

    def send(self, data: bytes) -> bool:
        """Hand bytes over; False when nobody is there any more."""


class Performance:
    """Sends what is due, from timer to timer, and notes it in the row.

    Without a seat the plan's times are clock seconds from the start. With one they are work, which
    begins when its service does, and passes as fast as the provider works.

    Args:
        link: to the client.
        row: of the attempt; its moment of admission is the plan's origin.
        plan: of the attempt.
        script: of the plan.
        seat: its place at a provider with finite capacity.
        clock: whose time it is; None: the running event loop's.

    Attributes:
        sent: what was sent last reached a client that was still there.
    """

    __slots__ = (
        *("_clock", "_lingers", "_origin_s", "_over", "_playback", "_timer"),
        *("link", "plan", "row", "seat", "sent"),
    )

    def __init__(
        self,
        link: Listener,
        row: Row,
        plan: Plan,
        script: Script,
        seat: Seat | None,
        clock: Clock | None = None,
    ) -> None:
        self.link, self.row, self.plan, self.seat = link, row, plan, seat
        self._clock: Clock = asyncio.get_running_loop() if clock is None else clock
        self._origin_s = self._clock.time() if row.admitted_s is None else row.admitted_s
        # White space counts from admission, as if the connection had been there.
        start_s = self._origin_s + plan.setup_s if script.at_once else self._origin_s
        self._playback = Playback(script, start_s)
        self._lingers = seat is not None and plan.ending in SILENT
        self._over: Over | None = None
        self._timer: Alarm | None = None
        self.sent = link.left_s is None

    def begin(self) -> bool:
        """Send what is due already; return whether that was all."""
        return self._advance(self._clock.time())

    async def rest(self) -> None:
        """Send the rest, each part in time; one who is cancelled sends no more."""
        over = asyncio.get_running_loop().create_future()
        self.go_on(over)
        try:
            await over
        finally:
            self.stop()

    def go_on(self, over: Over) -> None:
        """Send the rest by timers, and then say that it is over."""
        self._over = over
        if self.seat is not None:
            self.seat.wake = self._wake

    def stop(self) -> None:
        """Send no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self, now: float) -> None:
        """Go on at a moment for which a timer was set."""
        over = self._over
        if over is None or over.done():  # cancelled in this very iteration
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            # A loop may fire a little early, which must not look like too early.
            if self._advance(max(now, self._clock.time())):
                over.set_result(None)
        except Exception as error:  # noqa: BLE001 - raised where the attempt is waited for
            over.set_exception(error)

    def _advance(self, now: float) -> bool:
        """Send all that is due by now; return whether that was all there is."""
        playback, seat = self._playback, self.seat
        while True:
            write, tick_s = playback.write, playback.tick_s
            if write is not None:
                at_s = write.at_s
                due_s = seat.when(at_s) if seat else self._origin_s + (at_s + self.plan.setup_s)
            elif seat is not None and self._lingers and not seat.left:
                due_s = seat.when(self.plan.last_token_s)  # nobody tells the provider to stop
            elif tick_s == inf:
                return True
            else:
                due_s = inf
            if tick_s < due_s:
                if tick_s > now:
                    break
                self._tick()
            elif due_s > now:
                break
            elif write is not None:
                self._say(write, due_s)
            elif seat is not None:
                seat.leave(now)
        self._set_timers(due_s, tick_s)
        return False

    def _say(self, write: Write, due_s: float) -> None:
        data = self._playback.content(write, due_s)
        self.sent = self.link.send(data)
        if not self.sent:
            self._playback.hush()
            return
        row, seat, now = self.row, self.seat, self._clock.time()
        if row.headers_s is None and data:
            row.headers_s = now
        if seat is not None and seat.began_s is not None and row.first_token_s is None:
            row.slowed_s = due_s - seat.began_s - write.at_s
        note_tokens(row, write, now)

    def _tick(self) -> None:
        self.sent = self.link.send(self._playback.tick())
        if not self.sent:
            self._playback.hush()
        elif self.row.headers_s is None:
            self.row.headers_s = self._clock.time()

    def _set_timers(self, due_s: float, tick_s: float) -> None:
        """Be woken for what is next: a moment of work rings, one of the clock has its own timer."""
        seat, write = self.seat, self._playback.write
        next_s = tick_s
        if seat is None:
            next_s = min(due_s, tick_s)
        elif due_s < inf:
            seat.ring_at(self.plan.last_token_s if write is None else write.at_s)
        if next_s < inf:
            self._timer = self._clock.call_at(next_s, self._wake, next_s)


def note_tokens(row: Row, write: Write, now: float) -> None:
    """Note what has been delivered once a write is out."""
    if write.tokens > row.completion_tokens:
        row.last_token_s, row.completion_tokens = now, write.tokens
        if row.first_token_s is None:
            row.first_token_s = now
