"""Shapes of arrivals: settings, and the starts they make of uniforms. Pure, nothing is awaited.

Theory of operation. A Poisson process of any rate is a unit one on a stretched time axis: where
unit exponentials add up to x, its arrival is at the t whose expected count is x (Cinlar, 1975;
"inversion of the integrated rate"). Rates here are straight lines in pieces, so that their integral
is a parabola, and the inversion exact. A new shape is one class and a line of `Arrivals`.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, count, pairwise
from math import log1p, sqrt
from typing import Annotated

from msgspec import Meta, Struct

from harness.scenario.resilience import PositiveSeconds
from mock_llm.config import Factor, Table
from mock_llm.distributions import Gamma, quantile_function

PerSecond = Annotated[float, Meta(gt=0, le=1e5)]
PerSecondOrZero = Annotated[float, Meta(ge=0, le=1e5)]


class Piece(Struct, frozen=True):
    """A stretch of time in which the rate goes along a straight line."""

    begin_s: float
    end_s: float
    from_per_s: float
    to_per_s: float

    @property
    def expected(self) -> float:
        """Arrivals in it, on average."""
        return (self.end_s - self.begin_s) * (self.from_per_s + self.to_per_s) / 2

    def at(self, x: float) -> float:
        """When `x` arrivals of it are expected to have come; below `expected`."""
        slope = (self.to_per_s - self.from_per_s) / (self.end_s - self.begin_s)
        root = sqrt(max(0.0, self.from_per_s**2 + 2 * slope * x))
        return self.begin_s + 2 * x / (self.from_per_s + root)  # no difference of near equals


class Shape(Table, frozen=True, kw_only=True, tag_field="kind"):
    """Base of every shape."""

    def expected(self, duration_s: float) -> float:
        """Arrivals before `duration_s`, on average."""
        return sum(piece.expected for piece in self.pieces(duration_s))

    def highest_per_s(self, duration_s: float) -> float:
        """The greatest rate there is before `duration_s`."""
        return max(max(one.from_per_s, one.to_per_s) for one in self.pieces(duration_s))

    def pieces(self, duration_s: float) -> list[Piece]:
        """The rate over time."""
        raise NotImplementedError

    def starts(self, uniforms: Iterator[float], duration_s: float) -> Iterator[float]:
        """Times of arrival, rising, at least as far as `duration_s`: a Poisson process.

        Args:
            uniforms: in (0, 1), without end; the n-th makes the n-th gap.
            duration_s: past it nothing is asked for.
        """
        before = 0.0
        pieces = iter(self.pieces(duration_s))
        piece = next(pieces)
        expected = piece.expected
        for x in accumulate(-log1p(-u) for u in uniforms):
            while x - before >= expected:
                before += expected
                if (later := next(pieces, None)) is None:
                    return
                piece, expected = later, later.expected
            yield piece.at(x - before)


class ConstantArrivals(Shape, frozen=True, kw_only=True, tag="constant"):
    """One every 1 / rate_per_s, the first at once."""

    rate_per_s: PerSecond

    def pieces(self, duration_s: float) -> list[Piece]:
        """One rate throughout."""
        return _steps((self.rate_per_s,), (), duration_s)

    def starts(
        self,
        uniforms: Iterator[float],  # noqa: ARG002 - nothing to draw
        duration_s: float,  # noqa: ARG002 - without an end
    ) -> Iterator[float]:
        """Multiples of the gap, not sums of it: no rounding adds up."""
        return (n / self.rate_per_s for n in count())


class PoissonArrivals(Shape, frozen=True, kw_only=True, tag="poisson"):
    """Callers who know nothing of each other: exponential gaps."""

    rate_per_s: PerSecond

    def pieces(self, duration_s: float) -> list[Piece]:
        """One rate throughout."""
        return _steps((self.rate_per_s,), (), duration_s)


class GammaArrivals(Shape, frozen=True, kw_only=True, tag="gamma"):
    """Gaps of a gamma law: burstier than Poisson where cv > 1, evener where it is less.

    Attributes:
        cv: coefficient of variation of the gaps.
    """

    rate_per_s: PerSecond
    cv: Annotated[float, Meta(ge=1e-3, le=10)]

    def pieces(self, duration_s: float) -> list[Piece]:
        """One rate throughout, on average."""
        return _steps((self.rate_per_s,), (), duration_s)

    def starts(
        self,
        uniforms: Iterator[float],
        duration_s: float,  # noqa: ARG002 - without an end
    ) -> Iterator[float]:
        """Sums of gaps."""
        gap = quantile_function(Gamma(mean=1.0, cv=self.cv))
        return accumulate(gap(u) / self.rate_per_s for u in uniforms)


class RampArrivals(Shape, frozen=True, kw_only=True, tag="ramp"):
    """Poisson, at a rate that goes in a straight line from one to the other over the duration."""

    from_per_s: PerSecondOrZero
    to_per_s: PerSecondOrZero

    def __post_init__(self) -> None:
        """Refuse a ramp on which nobody comes."""
        if not self.from_per_s and not self.to_per_s:
            raise ValueError("to_per_s and from_per_s are both 0: nobody would ever come")

    def pieces(self, duration_s: float) -> list[Piece]:
        """One straight line."""
        return [Piece(0.0, duration_s, self.from_per_s, self.to_per_s)]


class StepArrivals(Shape, frozen=True, kw_only=True, tag="step"):
    """Poisson, at a rate that jumps.

    Attributes:
        rates_per_s: one after the other.
        at_s: when the second rate and those after it begin; one fewer than rates.
    """

    rates_per_s: Annotated[tuple[PerSecondOrZero, ...], Meta(min_length=1)]
    at_s: tuple[PositiveSeconds, ...] = ()

    def __post_init__(self) -> None:
        """Refuse times that do not part the rates."""
        if len(self.at_s) != len(self.rates_per_s) - 1:
            wanted = len(self.rates_per_s) - 1
            raise ValueError(f"at_s: {len(self.rates_per_s)} rates need {wanted} of them")
        if any(b <= a for a, b in pairwise(self.at_s)):
            raise ValueError("at_s must rise")
        if not any(self.rates_per_s):
            raise ValueError("rates_per_s are all 0: nobody would ever come")

    def pieces(self, duration_s: float) -> list[Piece]:
        """One for each rate."""
        return _steps(self.rates_per_s, self.at_s, duration_s)


class SpikeArrivals(Shape, frozen=True, kw_only=True, tag="spike"):
    """Poisson, at a rate that is multiplied for a while.

    Attributes:
        base_per_s: before and after.
        factor: how many times that in between.
        at_s: when it begins.
        for_s: how long it goes on.
    """

    base_per_s: PerSecond
    factor: Factor
    at_s: PositiveSeconds
    for_s: PositiveSeconds

    def pieces(self, duration_s: float) -> list[Piece]:
        """Before, while and after."""
        rates = (self.base_per_s, self.base_per_s * self.factor, self.base_per_s)
        return _steps(rates, (self.at_s, self.at_s + self.for_s), duration_s)


class TraceArrivals(Shape, frozen=True, kw_only=True, tag="trace"):
    """Arrivals as somebody recorded them, from the first on; every seed has the same.

    Attributes:
        file: CSV with a column `t_s` (seconds), plain or gzipped; relative to the working
            directory or to the scenario's file.
        scale: the rate is so many times the recorded one: 2 plays it in half the time.
    """

    file: str
    scale: Factor = 1.0

    def pieces(self, duration_s: float) -> list[Piece]:
        """Unknown before the file is read."""
        return [Piece(0.0, duration_s, 0.0, 0.0)]


Arrivals = (
    ConstantArrivals
    | PoissonArrivals
    | GammaArrivals
    | RampArrivals
    | StepArrivals
    | SpikeArrivals
    | TraceArrivals
)


def _steps(rates: Sequence[float], at_s: Sequence[float], duration_s: float) -> list[Piece]:
    edges = [0.0, *(min(at, duration_s) for at in at_s), duration_s]
    spans = zip(pairwise(edges), rates, strict=True)
    return [Piece(begin, end, rate, rate) for (begin, end), rate in spans if end > begin]
