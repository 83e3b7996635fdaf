"""Service and arrivals of any law: exact for one server and Poisson arrivals, else approximate."""

from functools import lru_cache
from math import inf, sqrt

import msgspec
import numpy as np

from harness.theory.erlang import erlang_c
from mock_llm.distributions import Constant, Distribution, Mixture, mean, quantile_function
from mock_llm.distributions.base import STANDARD, Quantile, integral


class Moments(msgspec.Struct, frozen=True):
    """Of a duration.

    Attributes:
        mean: seconds.
        cv2: squared coefficient of variation: variance over squared mean.
    """

    mean: float
    cv2: float

    @property
    def residual_s(self) -> float:
        """Mean time left at a moment in its midst: E[S^2] / (2 E[S]) (inspection paradox)."""
        return self.mean * (1 + self.cv2) / 2


@lru_cache(maxsize=256)
def moments(dist: Distribution) -> Moments:
    """Of a scenario's distribution; the second moment is integrated over the quantile function.

    Good to about 1e-5 for laws with sigma <= 2: what lies beyond eight standard deviations of the
    normal law is left out, and of wilder tails that is not little.
    """
    first = mean(dist)
    return Moments(first, max(0.0, _second(dist) / first**2 - 1) if first else 0.0)


def _second(dist: Distribution) -> float:
    if isinstance(dist, int | float | Constant):
        return mean(dist) ** 2
    if isinstance(dist, Mixture):  # its parts are smooth, and their seams are not
        total = sum(part.weight for part in dist.parts)
        return sum(part.weight * _second(part.dist) for part in dist.parts) / total
    quantile = quantile_function(dist)
    return integral(lambda u: quantile(u) ** 2)


def rising_quantile(dist: Distribution) -> Quantile:
    """The true quantile function: a mixture's own rises only within each part.

    A mixture's is interpolated between some thousand values of each part, to about 1e-4.
    """
    if not isinstance(dist, Mixture):
        return quantile_function(dist)
    z = np.linspace(-8, 8, 4001)
    weights = np.exp(-z * z / 2)
    share = sum(part.weight for part in dist.parts)
    values, masses = [], []
    for part in dist.parts:
        draw = rising_quantile(part.dist)
        values.append([draw(STANDARD.cdf(float(x))) for x in z])
        masses.append(weights / weights.sum() * part.weight / share)
    value, mass = np.concatenate(values), np.concatenate(masses)
    order = np.argsort(value)
    value, mass = value[order], mass[order]
    middle = np.cumsum(mass) - mass / 2
    return lambda u: float(np.interp(u, middle, value))


def pollaczek_khinchine(arrival: float, service: Moments) -> float:
    """Mean wait in M/G/1, seconds: lambda E[S^2] / (2 (1 - rho)). Exact; infinite at rho >= 1.

    Pollaczek (Math. Zeitschrift 32, 1930), Khinchine (Mat. Sbornik 39, 1932).
    """
    rho = arrival * service.mean
    return rho * service.residual_s / (1 - rho) if rho < 1 else inf


def allen_cunneen(arrival: float, ca2: float, service: Moments, servers: int) -> float:
    """Mean wait in G/G/c, seconds: that of M/M/c times (Ca^2 + Cs^2) / 2. For screening.

    Allen, Probability, Statistics and Queueing Theory, 2nd ed., 1990, 5.5, after Cunneen. Exact for
    M/M/c and M/G/1. Measured errors at rho .8: M/D/5 -4 %, M/LN(Cs2 = 4)/5 +18 %, Gamma(Ca2 = 4)/
    M/5 -21 %; Gamma(4)/M/50 at .9 -34 %. It is optimistic exactly where arrivals come in bursts.

    Args:
        arrival: per second.
        ca2: squared coefficient of variation of the gaps.
        service: of a request.
        servers: c.
    """
    load = arrival * service.mean
    if load >= servers:
        return inf
    exponential = erlang_c(servers, load) * service.mean / (servers - load)
    return exponential * (ca2 + service.cv2) / 2


def sakasegawa(arrival: float, ca2: float, service: Moments, servers: int) -> float:
    """The same with rho^(sqrt(2 (c + 1)) - 1) in place of Erlang's C: no recursion, same validity.

    Sakasegawa, Annals of the Institute of Statistical Mathematics 29(1), 1977. For one server it is
    Kingman's formula (Proc. Cambridge Phil. Soc. 57, 1961), exact as rho goes to 1.
    """
    rho = arrival * service.mean / servers
    if rho >= 1:
        return inf
    waits: float = rho ** (sqrt(2 * (servers + 1)) - 1)
    return waits * service.mean / (servers * (1 - rho)) * (ca2 + service.cv2) / 2


def relaxation_s(service: Moments, ca2: float, rho: float) -> float:
    """How quickly a queue forgets that it began empty, seconds; infinite at rho >= 1.

    (Ca^2 + Cs^2) E[S] / (2.8 (1 - sqrt(rho))^2), Odoni and Roth, Operations Research 31(3), 1983;
    for one server, and so a bound for several.
    """
    if rho >= 1:
        return inf
    return service.mean * (ca2 + service.cv2) / (2.8 * (1 - sqrt(rho)) ** 2)
