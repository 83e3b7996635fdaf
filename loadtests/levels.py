"""How many users there are, as a function of time: what `--shape` names. Pure, nothing is awaited.

A new shape is one class and a line of `Named`.
"""

import math
import re
from bisect import bisect_left
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from harness.corpus import read_trace
from harness.scenario.resilience import PositiveSeconds
from harness.scenario.settings import value_of
from mock_llm.config import Factor, Seconds, Table
from mock_llm.strict import FieldError, convert

Users = Annotated[int, Meta(ge=0, le=1_000_000)]
SomeUsers = Annotated[int, Meta(ge=1, le=1_000_000)]
T = TypeVar("T")

AT_ONCE = 100.0
"""Users a second that are made; Locust warns above it."""

_COMMA = re.compile(r",(?![^\[]*\])")


class Shape(Table, frozen=True, kw_only=True, tag_field="kind"):
    """Base of every shape."""

    @property
    def length_s(self) -> float:
        """After which all is over, seconds."""
        raise NotImplementedError

    @property
    def most(self) -> int:
        """The most users that there are at any time."""
        raise NotImplementedError

    @property
    def spike_s(self) -> tuple[float, float] | None:
        """When a spike begins and ends; None where there is none."""
        return None

    def users(self, t: float) -> int:
        """How many there are `t` seconds after the start, before `length_s`."""
        raise NotImplementedError


class Ramp(Shape, frozen=True, kw_only=True, tag="ramp", rename={"first": "from", "hold_s": "for"}):
    """From one number to another in a straight line `over` so many seconds, then `for` more."""

    first: Users = 0
    to: SomeUsers
    over: PositiveSeconds
    hold_s: Seconds = 0.0

    @property
    def length_s(self) -> float:
        """The line, and what comes after it."""
        return self.over + self.hold_s

    @property
    def most(self) -> int:
        """At one end of the line."""
        return max(self.first, self.to)

    def users(self, t: float) -> int:
        """On the line."""
        return round(self.first + (self.to - self.first) * min(1.0, t / self.over))


class Step(Shape, frozen=True, kw_only=True, tag="step", rename={"first": "from"}):
    """`by` more `every` so many seconds, until there are `to`, for as long once more."""

    by: SomeUsers
    every: PositiveSeconds
    to: SomeUsers
    first: Users | None = None

    @property
    def length_s(self) -> float:
        """Of all steps."""
        return self.every * (1 + math.ceil(max(0, self.to - self._first) / self.by))

    @property
    def most(self) -> int:
        """On the last step."""
        return max(self.to, self._first)

    def users(self, t: float) -> int:
        """On the step that `t` is in."""
        return min(self._first + self.by * math.floor(t / self.every), self.most)

    @property
    def _first(self) -> int:
        return self.by if self.first is None else self.first


class Spike(Shape, frozen=True, kw_only=True, tag="spike", rename={"for_s": "for"}):
    """`factor` times as many, from `at` `for` so many seconds; then `after` more as before."""

    base: SomeUsers
    factor: Factor
    at: PositiveSeconds
    for_s: PositiveSeconds
    after: PositiveSeconds = 60.0

    @property
    def length_s(self) -> float:
        """Before, while and after."""
        return self.at + self.for_s + self.after

    @property
    def most(self) -> int:
        """In the spike, unless it is a hole."""
        return max(self.base, self._in_spike)

    @property
    def spike_s(self) -> tuple[float, float] | None:
        """Its beginning and its end."""
        return self.at, self.at + self.for_s

    def users(self, t: float) -> int:
        """As many as before, or in it."""
        return self._in_spike if self.at <= t < self.at + self.for_s else self.base

    @property
    def _in_spike(self) -> int:
        return round(self.base * self.factor)


class Soak(
    Shape, frozen=True, kw_only=True, tag="soak", rename={"number": "users", "for_s": "for"}
):
    """One number `for` a long time, after a `ramp`."""

    number: SomeUsers
    for_s: PositiveSeconds
    ramp: Seconds = 0.0

    @property
    def length_s(self) -> float:
        """With the ramp."""
        return self.ramp + self.for_s

    @property
    def most(self) -> int:
        """All of them."""
        return self.number

    def users(self, t: float) -> int:
        """On the ramp, or all of them."""
        return self.number if t >= self.ramp else round(self.number * t / self.ramp)


class Sawtooth(Shape, frozen=True, kw_only=True, tag="sawtooth", rename={"for_s": "for"}):
    """From `low` to `high` in a straight line, and down at once, every `period`."""

    low: Users
    high: SomeUsers
    period: PositiveSeconds
    for_s: PositiveSeconds

    def __post_init__(self) -> None:
        """Refuse teeth that point down."""
        if self.high < self.low:
            raise ValueError(f"high is {self.high}, less than low, {self.low}")

    @property
    def length_s(self) -> float:
        """Of all teeth."""
        return self.for_s

    @property
    def most(self) -> int:
        """At a tip."""
        return self.high

    def users(self, t: float) -> int:
        """On the tooth that `t` is in."""
        return round(self.low + (self.high - self.low) * (t % self.period) / self.period)


class Trace(Shape, frozen=True, kw_only=True, tag="trace"):
    """As many as make a recorded rate of arrivals, `scale` times, by Little's law.

    Attributes:
        file: as for arrivals of kind `trace`.
        every: seconds between two requests of a user, its answer included.
        window: seconds over which the rate is averaged.
        times: the trace, seconds from its first arrival; read when the shape is.
    """

    file: str
    every: PositiveSeconds
    scale: Factor = 1.0
    window: PositiveSeconds = 10.0
    times: tuple[float, ...] = ()

    @property
    def length_s(self) -> float:
        """To its end, in whole windows."""
        last = self.times[-1] if self.times else 0.0
        return self.window * (math.floor(last / self.window) + 1)

    @property
    def most(self) -> int:
        """In the busiest window."""
        windows = round(self.length_s / self.window)
        return max(1, *(self.users(n * self.window) for n in range(windows)))

    def users(self, t: float) -> int:
        """For the window that `t` is in; a window with anybody in it has a user."""
        begin = self.window * math.floor(t / self.window)
        came = bisect_left(self.times, begin + self.window) - bisect_left(self.times, begin)
        return math.ceil(came / self.window * self.scale * self.every)


class Search(Shape, frozen=True, kw_only=True, tag="search"):
    """The most users for whom the promises hold: see `loadtests.search`.

    Attributes:
        start: the number that is tried first.
        up_to: more are not tried.
        warm: seconds after a change that do not count.
        hold: seconds that count.
        within: the answer is known to so large a share of itself.
    """

    start: SomeUsers = 10
    up_to: SomeUsers = 10_000
    warm: Seconds = 10.0
    hold: PositiveSeconds = 20.0
    within: Annotated[float, Meta(ge=0.01, le=1)] = 0.1

    def __post_init__(self) -> None:
        """Refuse a range without anything in it."""
        if self.up_to < self.start:
            raise ValueError(f"up_to is {self.up_to}, less than start, {self.start}")

    @property
    def length_s(self) -> float:
        """It ends when it knows."""
        return math.inf

    @property
    def most(self) -> int:
        """As many as are ever tried."""
        return self.up_to


def pace(users: int, then: int) -> float:
    """Users a second, from so many to so many.

    All who leave do so together: Locust waits for the last request of each second's leavers before
    it sends the next away, which for some thousands took minutes. Its warning of a high rate is for
    those who come.
    """
    return max(AT_ONCE, float(users - then))


Named = Ramp | Step | Spike | Soak | Sawtooth | Trace | Search


def parse_shape(text: str, base: Path | None = None) -> Named:
    """The shape of a `--shape NAME:key=value,...`.

    Args:
        text: what was given.
        base: where a trace is looked for besides the current folder.

    Raises:
        InputError: there is no such shape or key, a value does not fit, or a trace cannot be read.
    """
    shape: Named = parse_table("--shape", text, Named)
    if isinstance(shape, Trace):
        return msgspec.structs.replace(shape, times=tuple(read_trace(shape.file, base)))
    return shape


def parse_table(option: str, text: str, type_: Any) -> Any:
    """A struct of a tagged union, written as `KIND:key=value,...` on a command line.

    Raises:
        FieldError: it is not written so, or `type_` has no such kind, key or value.
    """
    kind, _, rest = text.partition(":")
    table: dict[str, Any] = {}
    shown = f"{option} {text}"
    for part in filter(str.strip, _COMMA.split(rest)):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise FieldError((), f"{part.strip()!r} is no key=value", shown)
        table[key.strip()] = value_of(value.strip())
    return convert({**table, "kind": kind.strip()}, type_, shown)
