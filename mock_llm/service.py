"""A provider's slots on a running event loop: who is served, and alarms at moments of work."""

import asyncio
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Any, Protocol

from mock_llm.capacity import Station
from mock_llm.config import Capacity
from mock_llm.work_clock import WorkClock

_SLACK = 64  # alarms, before those of seats that are empty are swept out


class Alarm(Protocol):
    """A timer that can be taken back."""

    def cancel(self) -> object:
        """Ring no more."""


class Clock(Protocol):
    """What tells the time and wakes: an event loop, or a simulation's clock."""

    def time(self) -> float:
        """Seconds since some origin."""

    def call_at(self, when: float, callback: Callable[..., object], /, *args: Any) -> Alarm:
        """Call at a moment."""


class Seat:
    """One attempt's place at the provider, from entering to leaving.

    Attributes:
        entered_s: loop time at which it came.
        number: by which other processes know it.
        began_s: loop time at which its service began; None while it waits.
        alarm: when it will be woken, in work of the common clock.
        wake: called with the moment after its service has begun, and when its alarm rings.
    """

    def __init__(self, service: "Service", now: float, number: int = 0) -> None:
        self._service = service
        self.entered_s, self.number = now, number
        self.began_s: float | None = None
        self.left = False
        self.wake: Callable[[float], object] = _ignore
        self._work_at_begin = 0.0
        self.alarm = inf

    def begin(self, now: float, work: float) -> None:
        """Be served from now on, when so much work has been done by anybody."""
        self.began_s, self._work_at_begin = now, work

    def when(self, work_s: float) -> float:
        """Return when so much of its own work is done, at the present rate; waiting, never."""
        if self.began_s is None:
            return inf
        return self._service.clock.when(self._work_at_begin + work_s)

    def ring_at(self, work_s: float) -> None:
        """Be woken when so much of its own work is done, in place of any earlier wish."""
        if self.began_s is not None:
            self._service.ring_at(self, self._work_at_begin + work_s)

    def leave(self, now: float) -> None:
        """Make room, if it has not yet."""
        if not self.left:
            self.left, self.alarm, self.wake = True, inf, _ignore
            self._service.leave(self, now)


class Service:
    """The slots, and one timer for all who are served.

    All share one rate, so that of all alarms only the next needs a timer, and when the rate changes
    only that one is set anew.
    """

    def __init__(self, capacity: Capacity) -> None:
        self.station: Station[Seat] = Station(capacity)
        self.clock = WorkClock()
        self._alarms: list[tuple[float, int, Seat]] = []
        self._numbers = count()
        self._most_alarms = _SLACK
        self._timer: Alarm | None = None

    def _time_of(self) -> Clock:
        """Whose time it is: that of the running event loop."""
        return asyncio.get_running_loop()

    def change(self, capacity: Capacity) -> None:
        """Be of another capacity; see `Station.change`."""
        now = self._time_of().time()
        self._go_on(self.station.change(capacity, now), now)

    async def enter(self, now: float) -> Seat | None:
        """Return the place of one more attempt; None: there is none. Here nobody has to wait."""
        return self.take(now)

    def take(self, now: float) -> Seat | None:
        """See `enter`."""
        seat = Seat(self, now)
        place = self.station.enter(seat, now)
        if place == "full":
            return None
        self._go_on([], now)
        if place == "serving":
            seat.begin(now, self.clock.work(now))
        return seat

    def leave(self, seat: Seat, now: float) -> None:
        """See `Seat.leave`."""
        self._go_on(self.station.leave(seat, now), now)

    def ring_at(self, seat: Seat, work: float) -> None:
        """See `Seat.ring_at`; here the work is that of the common clock."""
        if seat.alarm != work:
            seat.alarm = work
            heappush(self._alarms, (work, next(self._numbers), seat))
            if self._alarms[0][2] is seat:
                self._set_timer()

    def _go_on(self, begun: list[Seat], now: float) -> None:
        self._begin(begun, self.station.rate, now)

    def _begin(self, begun: Iterable[Seat], rate: float, now: float) -> None:
        """Take a new rate; wake, in a while, those whose service begins."""
        self.clock.set_rate(rate, now)
        work = self.clock.work(now)
        for seat in begun:
            seat.begin(now, work)
            self.ring_at(seat, work)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        alarms = self._alarms
        if len(alarms) > self._most_alarms:
            alarms[:] = [alarm for alarm in alarms if alarm[2].alarm == alarm[0]]
            heapify(alarms)
            self._most_alarms = 2 * len(alarms) + _SLACK
        while alarms and alarms[0][2].alarm != alarms[0][0]:
            heappop(alarms)  # another wish has taken its place, or its seat is empty
        if alarms:
            when = self.clock.when(alarms[0][0])
            self._timer = self._time_of().call_at(when, self._ring, when)

    def _ring(self, when: float) -> None:
        # A loop may fire a little early, which must not look like too early.
        now = max(self._time_of().time(), when)
        alarms = self._alarms
        while alarms and self.clock.when(alarms[0][0]) <= now:
            work, _, seat = heappop(alarms)
            if seat.alarm == work:
                seat.alarm = inf
                seat.wake(now)
        self._set_timer()


def _ignore(_: float) -> None:
    """What wakes a seat before anybody sits on it."""
