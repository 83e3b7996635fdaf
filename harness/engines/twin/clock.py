"""The twin's clock: SimPy's environment, with alarms that can be taken back.

Theory of operation. Events sit in SimPy's heap by time and number, so that those of one instant
happen in the order in which they were set, as on the virtual loop. An alarm calls a function and
is far cheaper than a process; one that was taken back stays in the heap and is thrown away without
moving the clock, since a clock that had moved would tell the wrong time when nothing else is left.
"""

from collections.abc import Callable, Generator
from enum import Enum
from heapq import heappop, heappush
from typing import Any, Final, TypeVar

import simpy
from simpy.events import NORMAL, Event, EventPriority, Process

__all__ = ["LATE", "Alarm", "Clock", "Flow", "Interrupt", "Limit", "Process", "Turn"]

Interrupt = simpy.Interrupt
LAST = EventPriority(NORMAL + 1)  # less is sooner
T = TypeVar("T")
Flow = Generator[Event, Any, T]
"""Work of a process: it yields what it waits for, and returns a T."""


class Late(Enum):
    """What a wait comes to when its limit has struck."""

    LATE = "late"


LATE: Final = Late.LATE


class Alarm:
    """A function to be called at a moment."""

    __slots__ = ("args", "callbacks", "function")

    def __init__(self, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.callbacks: object = True
        self.function, self.args = function, args

    def cancel(self) -> None:
        """Do not ring."""
        self.callbacks = None


class Turn(Event):
    """Something to wait for, with the words of a future."""

    def done(self) -> bool:
        """Whether it has come, or is not waited for any more."""
        return self.triggered

    def set_result(self, result: object = None) -> None:
        """Let it come."""
        self.succeed(result)

    def come_now(self, result: object) -> None:
        """Let it come at once, not in its turn; to be said by an alarm, last of all."""
        self._ok, self._value = True, result
        callbacks, self.callbacks = self.callbacks, None  # type: ignore[assignment]
        for callback in callbacks:
            callback(self)

    def come(self) -> None:
        """Let it come, unless it is not waited for any more."""
        if not self.triggered:
            self.succeed()


class Limit(Alarm):
    """A moment at which a wait ends with `LATE`, whatever is waited for just then.

    Attributes:
        waits_for: what is.
        struck: the moment is over.
    """

    __slots__ = ("struck", "waits_for")

    def __init__(self) -> None:
        super().__init__(self._strike, ())
        self.waits_for: Event | None = None
        self.struck = False

    def _strike(self) -> None:
        self.struck = True
        if self.waits_for is not None and not self.waits_for.triggered:
            self.waits_for.succeed(LATE)


class Clock(simpy.Environment):
    """Simulated seconds since the start of the run."""

    _now: float

    def __init__(self) -> None:
        super().__init__(0.0)

    def time(self) -> float:
        """Now."""
        return self._now

    def call_at(self, when: float, function: Callable[..., object], /, *args: Any) -> Alarm:
        """Call a function at a moment, or at once if that is past."""
        alarm = Alarm(function, args)
        self._put(when, alarm)
        return alarm

    def call_last(self, function: Callable[..., object], /, *args: Any) -> None:
        """Call a function at this moment, when all else has happened that happens now."""
        alarm: Any = Alarm(function, args)
        heappush(self._queue, (self._now, LAST, next(self._eid), alarm))

    def call_soon_threadsafe(self, function: Callable[..., object], /, *args: Any) -> Alarm:
        """Call a function at this moment: what a signal's handler asks a loop for."""
        return self.call_at(self._now, function, *args)

    def limit(self, when: float | None) -> Limit | None:
        """A limit on waits; None: there is none."""
        if when is None:
            return None
        limit = Limit()
        self._put(when, limit)
        return limit

    def sleep(self, delay_s: float) -> Event:
        """What to yield to wait for so long."""
        event = Event(self)
        event._ok, event._value = True, None  # noqa: SLF001 - as SimPy's own Timeout does
        self._put(self._now + delay_s, event)
        return event

    def turn(self) -> Turn:
        """Something to wait for."""
        return Turn(self)

    def wait(self, event: Event, limit: Limit | None) -> Flow[Any]:
        """Wait for an event, or for as long as there is time; then `LATE`."""
        if limit is None:
            return (yield event)
        if limit.struck:
            return LATE
        limit.waits_for = event
        found = yield event
        return LATE if limit.struck else found

    def _put(self, when: float, event: Any) -> None:
        heappush(self._queue, (max(when, self._now), NORMAL, next(self._eid), event))

    def until(self, end: Process | None = None) -> None:
        """Go on until a process has ended, or nothing is left that could happen.

        Raises:
            Exception: what a process that nobody waits for has failed with.
        """
        queue: list[Any] = self._queue
        while queue and (end is None or end.callbacks is not None):
            when, _, _, event = heappop(queue)
            callbacks = event.callbacks
            if callbacks is None:
                continue
            if isinstance(event, Alarm):
                self._now, event.callbacks = when, None
                event.function(*event.args)
                continue
            event.callbacks = None  # as SimPy marks what is over
            if callbacks:  # else nobody waits for it any more
                self._now = when
            for callback in callbacks:
                callback(event)
            if not event._ok and not event.defused:  # noqa: SLF001
                raise event._value  # noqa: SLF001
