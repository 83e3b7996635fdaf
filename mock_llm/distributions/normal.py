"""Normal and lognormal."""

from math import exp, log
from statistics import NormalDist
from typing import ClassVar

from mock_llm.distributions.base import LARGEST, STANDARD, Z99, Law, Quantile


class Normal(Law, tag="normal", frozen=True, kw_only=True):
    """Gaussian, by mean and standard deviation or two percentiles; negative values become 0."""

    alternatives: ClassVar = (("mean", "sd"), ("p50", "p99"))
    bounds: ClassVar = {"mean": (0.0, LARGEST), "sd": (0.0, LARGEST)}

    mean: float | None = None
    sd: float | None = None
    p50: float | None = None
    p99: float | None = None

    def _location(self) -> tuple[float, float]:
        if self.p50 is not None and self.p99 is not None:
            return self.p50, (self.p99 - self.p50) / Z99
        return self.mean or 0.0, self.sd or 0.0

    def raw_quantile(self) -> Quantile:
        """Compile max(0, mean + sd z)."""
        mean, sd = self._location()
        z = STANDARD.inv_cdf
        return lambda u: max(0.0, mean + sd * z(u))

    def raw_mean(self) -> float:
        """Return the mean of the normal law rectified at 0: mean Phi(mean/sd) + sd phi(mean/sd)."""
        mean, sd = self._location()
        if sd == 0.0:
            return mean
        return mean * STANDARD.cdf(mean / sd) + sd * STANDARD.pdf(mean / sd)


class Lognormal(Law, tag="lognormal", frozen=True, kw_only=True):
    """Normal in the logarithm: the body of nearly every measured latency.

    Attributes:
        mean: of the values, not of their logarithm.
        mu: mean of the natural logarithm.
        sigma: standard deviation of the natural logarithm.
        p50: median, exp(mu).
        p99: exp(mu + 2.326 sigma).
    """

    alternatives: ClassVar = (("mean", "sigma"), ("p50", "p99"), ("mu", "sigma"), ("p50", "sigma"))
    bounds: ClassVar = {"mu": (-21.0, 21.0), "sigma": (0.0, 10.0)}

    mean: float | None = None
    mu: float | None = None
    sigma: float | None = None
    p50: float | None = None
    p99: float | None = None

    def _log_moments(self) -> tuple[float, float]:
        if self.p50 is not None and self.p99 is not None:
            return log(self.p50), log(self.p99 / self.p50) / Z99
        sigma = self.sigma or 0.0
        if self.mean is not None:
            return log(self.mean) - sigma * sigma / 2, sigma
        return (self.mu or 0.0) if self.p50 is None else log(self.p50), sigma

    def raw_quantile(self) -> Quantile:
        """Compile exp(mu + sigma z)."""
        mu, sigma = self._log_moments()
        if sigma == 0.0:
            return lambda _u: exp(mu)
        log_value = NormalDist(mu, sigma).inv_cdf
        return lambda u: exp(log_value(u))

    def raw_mean(self) -> float:
        """Return exp(mu + sigma^2 / 2)."""
        mu, sigma = self._log_moments()
        return exp(mu + sigma * sigma / 2)
