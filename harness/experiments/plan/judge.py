"""Whether a configuration keeps its promises, from a few runs of it; pure.

What is promised is the next run, not the mean of many: a job whose mean is just in time is late
every other day. So a configuration is `in` when all of its runs kept every promise and the figures
of the next one would too with 95 % confidence (prediction interval of a normal value: Hahn and
Meeker, Statistical Intervals, 1991, 4.7). It is `out` as soon as one run breaks a promise: were it
to hold in 19 runs of 20, that would happen once in twenty. `close` is what holds so far.

Of a share that was the same in all runs, such as 100 % answered, an interval says nothing. Where
calls did fail and were tried again, some run will have a request whose retries all fail, and more
runs are asked for. n of n runs say that at least .05^(1/n) of all runs hold, with 95 % confidence.
"""

from collections.abc import Sequence
from math import inf, sqrt
from typing import Literal

from harness.experiments.plan.goal import shown
from harness.experiments.points import Point
from harness.scenario.slo import Bound
from harness.statistics import Interval, interval

Verdict = Literal["in", "out", "close"]
LEAST = 8
"""Runs before a configuration is in where no call failed: 69 % of all runs hold, at least."""

MOST = 16
"""Runs before one is in where calls failed, 83 %; what is still close then is not recommended."""

TWO_SIDED = 0.9
"""Leaves 5 % on either side."""


def verdict(points: Sequence[Point], bounds: Sequence[Bound]) -> tuple[Verdict, str]:
    """What the runs so far say, and why.

    Args:
        points: of one configuration, a seed each.
        bounds: every promise.
    """
    broken = [why for point in points if (why := missed(point, bounds)) is not None]
    if broken:
        return "out", f"{broken[0]} ({len(broken)} of {_runs(points)})"
    if len(points) < (MOST if any(map(_risky, points)) else LEAST):
        return "close", f"kept in {_runs(points)} so far"
    for bound in bounds:
        near = predicted(points, bound)
        if bound.op != "==" and not bound.holds(near.high if "<" in bound.op else near.low):
            told = f"{near.low:.4g} to {near.high:.4g}"
            return "close", f"{shown(bound)}: the next run may have {told}"
    about = tightest(points, bounds)
    near = predicted(points, about)
    next_one = f"{about.metric} of the next {near.low:.4g} to {near.high:.4g}"
    return "in", f"kept in all of {_runs(points)}; {next_one}"


def sure_share(runs: int) -> float:
    """The share of all runs that hold at least, with 95 % confidence, where so many did."""
    return float(0.05 ** (1 / runs))


def _risky(point: Point) -> bool:
    """Whether calls of it had to be made again."""
    return (point.figures["attempts"] or 0.0) > (point.figures["requests"] or 0.0)


def _runs(points: Sequence[Point]) -> str:
    return f"{len(points)} runs" if len(points) > 1 else "1 run"


def missed(point: Point, bounds: Sequence[Bound]) -> str | None:
    """Which promise a run broke the most, with its value; None if it kept all."""
    if point.invalid:
        return point.invalid[0]
    broken = [bound for bound in bounds if not bound.holds(value(point, bound))]
    if not broken:
        return None
    worst = max(broken, key=lambda bound: excess(point, bound))
    return f"{shown(worst)}: {value(point, worst):.6g}"


def value(point: Point, bound: Bound) -> float:
    """The figure of a promise; nan where nothing was measured."""
    found = point.figures[bound.metric]
    return float("nan") if found is None else found


def excess(point: Point, bound: Bound) -> float:
    """By what share of its limit a promise is broken; negative: so much is left."""
    over = value(point, bound) - bound.limit
    over = -over if ">" in bound.op else abs(over) if bound.op == "==" else over
    return inf if over != over else over / max(abs(bound.limit), 1e-9)  # noqa: PLR0124 - nan


def predicted(points: Sequence[Point], bound: Bound) -> Interval:
    """Where the next run's figure lies, with 90 %."""
    found = interval([value(point, bound) for point in points], TWO_SIDED)
    return Interval(found.mean, found.half_width * sqrt(found.n + 1), found.n, TWO_SIDED)


def tightest(points: Sequence[Point], bounds: Sequence[Bound]) -> Bound:
    """The promise with the least room, of those that say how fast or how dear it is.

    A share of requests that must succeed says little about what another slot is worth.
    """
    paced = [one for one in bounds if not one.metric.endswith(("_rate", "ok", "failed"))]
    return max(paced or bounds, key=lambda bound: max(excess(point, bound) for point in points))
