"""Gamma, Weibull and Pareto."""

from collections.abc import Callable
from math import exp, gamma, log, log1p
from typing import ClassVar

from mock_llm.distributions.base import Law, Quantile, require, within

_LN2, _LN100 = log(2), log(100)


class Gamma(Law, tag="gamma", frozen=True, kw_only=True):
    """By shape and scale, by mean and coefficient of variation, or by two percentiles."""

    alternatives: ClassVar = (("shape", "scale"), ("mean", "cv"), ("p50", "p99"))
    bounds: ClassVar = {"shape": (0.01, 1e6), "cv": (1e-3, 10.0)}

    shape: float | None = None
    scale: float | None = None
    mean: float | None = None
    cv: float | None = None
    p50: float | None = None
    p99: float | None = None

    def check(self) -> None:
        """Check also that a gamma law with these percentiles exists."""
        super().check()
        if self.p50 is not None:
            self._shape_scale()

    def _shape_scale(self) -> tuple[float, float]:
        if self.p50 is not None and self.p99 is not None:
            shape = _gamma_shape(self.p99 / self.p50)
            return shape, self.p50 / _gamma_inverse(shape)(0.5)
        if self.mean is not None and self.cv is not None:
            return self.cv**-2, self.mean * self.cv**2
        return self.shape or 0.0, self.scale or 0.0

    def raw_quantile(self) -> Quantile:
        """Compile scale times the inverse of the regularised lower incomplete gamma function."""
        shape, scale = self._shape_scale()
        inverse = _gamma_inverse(shape)
        return lambda u: scale * inverse(u)

    def raw_mean(self) -> float:
        """Return shape times scale."""
        shape, scale = self._shape_scale()
        return shape * scale


def _gamma_inverse(shape: float) -> Callable[[float], float]:
    # scipy takes a tenth of a second and 30 MB to import: only for those who draw a gamma.
    from scipy.special import gammaincinv

    return lambda u: float(gammaincinv(shape, u))


def _gamma_shape(ratio: float) -> float:
    """Return the shape at which p99 / p50 is the ratio (it falls as the shape rises)."""
    from scipy.optimize import brentq

    def excess(log_shape: float) -> float:
        inverse = _gamma_inverse(exp(log_shape))
        return log(inverse(0.99) / inverse(0.5)) - log(ratio)

    low, high = log(0.01), log(1e6)
    require(excess(high) < 0, f"p99 is too close to p50 for a gamma: a ratio of {ratio:g}")
    return exp(float(brentq(excess, low, high, xtol=1e-13)))


class Weibull(Law, tag="weibull", frozen=True, kw_only=True):
    """By shape and scale or by two percentiles; a shape below 1 means clustered gaps."""

    alternatives: ClassVar = (("shape", "scale"), ("p50", "p99"))
    bounds: ClassVar = {"shape": (0.04, 1e3)}

    shape: float | None = None
    scale: float | None = None
    p50: float | None = None
    p99: float | None = None

    def _shape_scale(self) -> tuple[float, float]:
        if self.p50 is not None and self.p99 is not None:
            shape = log(_LN100 / _LN2) / log(self.p99 / self.p50)
            return shape, self.p50 / _LN2 ** (1 / shape)
        return self.shape or 0.0, self.scale or 0.0

    def raw_quantile(self) -> Quantile:
        """Compile scale (-ln(1 - u))^(1/shape)."""
        shape, scale = self._shape_scale()
        power = 1 / shape
        return lambda u: scale * (-log1p(-u)) ** power

    def raw_mean(self) -> float:
        """Return scale Gamma(1 + 1/shape)."""
        shape, scale = self._shape_scale()
        return scale * gamma(1 + 1 / shape)


class Pareto(Law, tag="pareto", frozen=True, kw_only=True):
    """P(X > x) = (scale/x)^alpha from `scale` on: the heaviest tail, so it must be capped."""

    alternatives: ClassVar = (("scale", "alpha"), ("p50", "p99"))
    bounds: ClassVar = {"alpha": (0.09, 1e3)}

    cap: float
    scale: float | None = None
    alpha: float | None = None
    p50: float | None = None
    p99: float | None = None

    def check(self) -> None:
        """Check also that the cap leaves something of the law."""
        super().check()
        within("cap", self.cap, self.shift + self._scale_alpha()[0])

    def _scale_alpha(self) -> tuple[float, float]:
        if self.p50 is not None and self.p99 is not None:
            alpha = log(50) / log(self.p99 / self.p50)
            return self.p50 / 2 ** (1 / alpha), alpha
        return self.scale or 0.0, self.alpha or 0.0

    def raw_quantile(self) -> Quantile:
        """Compile scale (1 - u)^(-1/alpha)."""
        scale, alpha = self._scale_alpha()
        power = -1 / alpha
        return lambda u: scale * (1.0 - u) ** power

    def expected(self) -> float:
        """Return shift + scale + the integral of P(X > x) from scale to the cap."""
        scale, alpha = self._scale_alpha()
        ratio = (self.cap - self.shift) / scale
        tail = log(ratio) if alpha == 1.0 else (ratio ** (1 - alpha) - 1) / (1 - alpha)
        return self.shift + scale * (1 + tail)
