"""One attempt on the wire: a script played by timers, without a task of its own."""

import asyncio
from math import inf

from mock_llm.connection import Connection
from mock_llm.ledger import Row
from mock_llm.pacing import Write
from mock_llm.plan import Ending, Plan
from mock_llm.playback import Playback, Script
from mock_llm.service import Seat

SILENT: frozenset[Ending] = frozenset({"hang", "stall", "keep_alive"})
"""Endings that are none: the client waits until it leaves."""


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

    Attributes:
        sent: what was sent last reached a client that was still there.
    """

    __slots__ = (
        *("_lingers", "_loop", "_origin_s", "_over", "_playback", "_timer"),
        *("link", "plan", "row", "seat", "sent"),
    )

    def __init__(
        self, link: Connection, row: Row, plan: Plan, script: Script, seat: Seat | None
    ) -> None:
        self.link, self.row, self.plan, self.seat = link, row, plan, seat
        self._loop = asyncio.get_running_loop()
        self._origin_s = self._loop.time() if row.admitted_s is None else row.admitted_s
        # White space counts from admission, as if the connection had been there.
        start_s = self._origin_s + plan.setup_s if script.at_once else self._origin_s
        self._playback = Playback(script, start_s)
        self._lingers = seat is not None and plan.ending in SILENT
        self._over: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.sent = link.left_s is None

    def begin(self) -> bool:
        """Send what is due already; return whether that was all."""
        return self._advance(self._loop.time())

    async def rest(self) -> None:
        """Send the rest, each part in time; one who is cancelled sends no more."""
        self._over = self._loop.create_future()
        if self.seat is not None:
            self.seat.wake = self._wake
        try:
            await self._over
        finally:
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
            if self._advance(max(now, self._loop.time())):
                over.set_result(None)
        except Exception as error:  # noqa: BLE001 - raised where the attempt is waited for
            over.set_exception(error)

    def _advance(self, now: float) -> bool:
        """Send all that is due by now; return whether that was all there is."""
        playback = self._playback
        while True:
            due_s, tick_s = self._due_s(), playback.tick_s()
            if due_s <= tick_s:
                if due_s > now or due_s == inf:
                    return self._set_timers(due_s, tick_s)
                self._go_on(due_s, now)
            elif tick_s > now:
                return self._set_timers(due_s, tick_s)
            else:
                self._send(playback.tick())

    def _due_s(self) -> float:
        """The moment of the next write, or of the end of the work on one who will hear no more."""
        write, seat = self._playback.write, self.seat
        if seat is None:
            return inf if write is None else self._origin_s + (write.at_s + self.plan.setup_s)
        if write is not None:
            return seat.when(write.at_s)
        return seat.when(self.plan.last_token_s) if self._is_worked_on() else inf

    def _is_worked_on(self) -> bool:
        """All is sent that will be, and the provider does not know."""
        return self._lingers and self.seat is not None and not self.seat.left

    def _go_on(self, due_s: float, now: float) -> None:
        write = self._playback.write
        if write is not None:
            if self._send(self._playback.content(write, due_s)):
                self._note(write, due_s)
        elif self.seat is not None:
            self.seat.leave(now)

    def _send(self, data: bytes) -> bool:
        self.sent = self.link.send(data)
        if not self.sent:
            self._playback.hush()
        elif self.row.headers_s is None:
            self.row.headers_s = self._loop.time()
        return self.sent

    def _note(self, write: Write, due_s: float) -> None:
        row = self.row
        if write.tokens > row.completion_tokens:
            row.last_token_s = self._loop.time()
            row.completion_tokens = write.tokens
            if row.first_token_s is None:
                row.first_token_s = row.last_token_s
                if self.seat is not None and self.seat.began_s is not None:
                    row.slowed_s = due_s - self.seat.began_s - write.at_s

    def _set_timers(self, due_s: float, tick_s: float) -> bool:
        """Be woken for what is next; return whether nothing is."""
        seat, write = self.seat, self._playback.write
        next_s = tick_s
        if seat is None:
            next_s = min(due_s, tick_s)
        elif write is not None:
            seat.ring_at(write.at_s)
        elif self._is_worked_on():
            seat.ring_at(self.plan.last_token_s)
        if next_s != inf:
            self._timer = self._loop.call_at(next_s, self._wake, next_s)
            return False
        return write is None and not self._is_worked_on()
