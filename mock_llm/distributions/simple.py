"""Constant, uniform and exponential."""

from math import log, log1p
from typing import ClassVar

from mock_llm.distributions.base import Family, Law, Quantile, require, within


class Constant(Family, tag="constant", frozen=True, kw_only=True):
    """Always the same value; a bare number in TOML means the same."""

    value: float

    def check(self) -> None:
        """Check the value."""
        within("value", self.value, 0.0)

    def quantile(self) -> Quantile:
        """Compile the quantile function."""
        value = self.value
        return lambda _u: value

    def expected(self) -> float:
        """Return the value."""
        return self.value


class Uniform(Family, tag="uniform", frozen=True, kw_only=True):
    """Every value between `low` and `high` alike."""

    low: float
    high: float

    def check(self) -> None:
        """Check the order of the ends."""
        within("low", self.low, 0.0)
        within("high", self.high, 0.0)
        require(self.high >= self.low, f"high {self.high} must not be below low {self.low}")

    def quantile(self) -> Quantile:
        """Compile the quantile function."""
        low, width = self.low, self.high - self.low
        return lambda u: low + width * u

    def expected(self) -> float:
        """Return the middle."""
        return (self.low + self.high) / 2


class Exponential(Law, tag="exponential", frozen=True, kw_only=True):
    """Memoryless, by its mean or its median."""

    alternatives: ClassVar = (("mean",), ("p50",))

    mean: float | None = None
    p50: float | None = None

    def raw_mean(self) -> float:
        """Return the mean; the median is ln 2 of it."""
        return self.mean if self.mean is not None else (self.p50 or 0.0) / log(2)

    def raw_quantile(self) -> Quantile:
        """Compile -mean ln(1 - u)."""
        mean = self.raw_mean()
        return lambda u: -mean * log1p(-u)
