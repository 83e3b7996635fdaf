"""The twin's clock: SimPy's environment, with alarms that can be taken back.

Theory of operation. What will happen later is in SimPy's heap, by time and number. Most of what
happens happens now, though, and needs no heap: it stands in one of three lines, as on asyncio's
loop. Interruptions and beginnings go first, then all else in the order in which it was set, which
what the heap has for this instant was before; and when nothing else is left, what comes last.

An alarm calls a function and is far cheaper than a process; one that was taken back stays where it
is and is thrown away without moving the clock, since a clock that had moved would tell the wrong
time when nothing else is left.
"""

from collections import deque
from collections.abc import Callable, Generator
from enum import Enum
from heapq import heappop, heappush
from typing import Any, Final, TypeVar

import msgspec
import simpy
from simpy.events import NORMAL, URGENT, Event, EventPriority, Process

__all__ = ["LATE", "Alarm", "Clock", "Event", "Flow", "Interrupt", "Limit", "Turn", "Work"]

Interrupt = simpy.Interrupt
T = TypeVar("T")
Flow = Generator[Event, Any, T]
"""Work of a process: it yields what it waits for, and returns a T."""
Later = Callable[[tuple[Callable[..., object], tuple[Any, ...]]], None]
"""Takes a function and its arguments; it cannot be taken back."""


class Late(Enum):
    """What a wait comes to when its limit has struck."""

    LATE = "late"


LATE: Final = Late.LATE


class Alarm(msgspec.Struct):
    """A function to be called at a moment.

    Attributes:
        callbacks: the function, under the name that SimPy's events have; None: not any more.
        args: of it.
    """

    callbacks: Callable[..., object] | None
    args: tuple[Any, ...] = ()

    def cancel(self) -> None:
        """Do not ring."""
        self.callbacks = None  # which lets go of whoever set it, too


class Turn(Event):
    """Something to wait for, with the words of a future."""

    def done(self) -> bool:
        """Whether it has come, or is not waited for any more."""
        return self.triggered

    def set_result(self, result: object = None) -> None:
        """Let it come."""
        self.succeed(result)

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

    waits_for: Event | None = None
    struck: bool = False

    def cancel(self) -> None:
        """Do not strike."""
        self.callbacks = self.waits_for = None

    def strike(self) -> None:
        """The moment has come."""
        self.struck = True
        if self.waits_for is not None and not self.waits_for.triggered:
            self.waits_for.succeed(LATE)


class Work(Process):
    """A process whose end is an event only for those who wait for it.

    It does not begin by itself: see `Clock.process`. What it fails with is raised at once.
    """

    env: "Clock"

    def __init__(self, clock: "Clock", flow: Flow[Any]) -> None:
        self.env, self._generator = clock, flow
        self.callbacks = []

    def _resume(self, event: Event) -> None:
        """As SimPy's own, for what is usual."""
        if event._ok:  # noqa: SLF001
            self.go_on(event._value)  # noqa: SLF001
        else:  # it is interrupted
            super()._resume(event)

    def go_on(self, value: object = None) -> None:
        """Begin, or go on with what was waited for."""
        try:
            event: Any = self._generator.send(value)
            while event.callbacks is None:  # it is over already
                event = self._generator.send(event._value)  # noqa: SLF001
        except StopIteration as stop:
            self._ok, self._value = True, stop.value
            if self.callbacks:
                self.env.schedule(self)
            else:
                self.callbacks = None  # type: ignore[assignment]
        else:
            event.callbacks.append(self._resume)
            self._target = event


class Clock(simpy.Environment):
    """Simulated seconds since the start of the run.

    Attributes:
        now_s: the moment; `now`, a property of SimPy's, takes longer to read and stands still.
        soon: calls a function with its arguments in its turn at this moment: `soon((f, args))`.
        last: the same, when all else has happened that happens now.
    """

    _queue: list[Any]

    def __init__(self) -> None:
        super().__init__(0.0)
        self.now_s = 0.0
        self._urgent: deque[Any] = deque()
        self._ready: deque[Any] = deque()
        self._last: deque[Any] = deque()
        self.soon: Later = self._ready.append
        self.last: Later = self._last.append

    def time(self) -> float:
        """Now."""
        return self.now_s

    def is_ready(self) -> bool:
        """Whether more happens at this moment, but for what comes last."""
        return bool(self._ready or self._urgent)

    def schedule(self, event: Event, priority: EventPriority = NORMAL, delay: float = 0.0) -> None:
        """Let an event of SimPy's happen."""
        if priority == URGENT:
            self._urgent.append(event)
        else:
            self._put(self.now_s + delay, event)

    def process(self, flow: Flow[Any]) -> Work:
        """Begin work before all else that happens now."""
        work = Work(self, flow)
        self._urgent.append((work.go_on, ()))
        return work

    def call_at(self, when: float, function: Callable[..., object], /, *args: Any) -> Alarm:
        """Call a function at a moment, or at once if that is past."""
        alarm = Alarm(function, args)
        if when > self.now_s:
            heappush(self._queue, (when, next(self._eid), alarm))
        else:
            self._ready.append(alarm)
        return alarm

    def call_soon_threadsafe(self, function: Callable[..., object], /, *args: Any) -> Alarm:
        """Call a function at this moment: what a signal's handler asks a loop for."""
        return self.call_at(self.now_s, function, *args)

    def limit(self, when: float | None) -> Limit | None:
        """A limit on waits; None: there is none."""
        if when is None:
            return None
        limit = Limit(None)
        limit.callbacks = limit.strike
        self._put(when, limit)
        return limit

    def sleep(self, delay_s: float) -> Event:
        """What to yield to wait for so long."""
        event = Event(self)
        event._ok, event._value = True, None  # noqa: SLF001 - as SimPy's own Timeout does
        self._put(self.now_s + delay_s, event)
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
        if when > self.now_s:
            heappush(self._queue, (when, next(self._eid), event))
        else:
            self._ready.append(event)

    def until(self, end: Work | None = None) -> None:
        """Go on until a process has ended, or nothing is left that could happen.

        Raises:
            Exception: what a process has failed with.
        """
        urgent, ready, last = self._urgent, self._ready, self._last
        queue = self._queue
        ended: list[Event] = []
        if end is not None and end.callbacks is not None:
            end.callbacks.append(ended.append)
        while not ended:
            if urgent:
                event = urgent.popleft()
            elif ready:
                event = ready.popleft()
            elif last:
                event = last.popleft()
            elif queue:
                when, _, event = heappop(queue)
                if not event.callbacks:
                    continue  # it was taken back, or nobody waits for it any more
                self.now_s = when
                while queue and queue[0][0] == when:
                    ready.append(heappop(queue)[2])
            else:
                break
            if event.__class__ is tuple:
                event[0](*event[1])
                continue
            if isinstance(event, Alarm):
                function, event.callbacks = event.callbacks, None
                if function is not None:
                    function(*event.args)
                continue
            callbacks, event.callbacks = event.callbacks, None  # as SimPy marks what is over
            for callback in callbacks:
                callback(event)
            if not event._ok and not event.defused:  # noqa: SLF001
                raise event._value  # noqa: SLF001
