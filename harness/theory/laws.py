"""Operational laws and rules of thumb: closed loops, retries, deadlines, scalability."""

from collections.abc import Sequence
from math import sqrt

import msgspec
import numpy as np


def loop_throughput_bounds(
    users: int, think_s: float, service_s: float, servers: int
) -> tuple[float, float]:
    """Least and greatest throughput of N users who think and wait, per second; any laws.

    Little's law for the loop, X = N / (R + Z), with R between that of no queue and that of being
    behind all others (Denning and Buzen, The operational analysis of queueing network models, ACM
    Computing Surveys 10(3), 1978; Muntz and Wong, 1974).
    """
    cycle_s = think_s + service_s
    worst_s = cycle_s + max(0, users - servers) * service_s / servers
    return users / worst_s, min(users / cycle_s, servers / service_s)


def response_s(users: int, throughput: float, think_s: float) -> float:
    """Mean response time by Little's law: R = N / X - Z."""
    return users / throughput - think_s


def retry_amplification(p_fail: float, retries: int) -> float:
    """Attempts per request where each fails alike: (1 - p^(r+1)) / (1 - p); r + 1 at p = 1."""
    if p_fail == 1:
        return float(retries + 1)
    return (1 - p_fail ** (retries + 1)) / (1 - p_fail)


def vulnerable_band(servers: int, service_s: float, retries: int) -> tuple[float, float]:
    """Loads that run well until something happens, and then never again, per second.

    Between c mu / (1 + r) and c mu: what is offered can be served, and what is offered when every
    request is retried r times cannot (Bronson et al., Metastable failures in distributed systems,
    HotOS 2021).
    """
    full = servers / service_s
    return full / (1 + retries), full


def useful_depth(servers: int, service_s: float, limit_s: float) -> float:
    """Places of a queue behind which an answer comes too late: (limit - S) c / S; at least 0."""
    return max(0.0, limit_s - service_s) * servers / service_s


class Usl(msgspec.Struct, frozen=True):
    """The universal scalability law, X(N) = gamma N / (1 + alpha (N - 1) + beta N (N - 1)).

    Gunther, Guerrilla Capacity Planning, 2007, ch. 4-6.

    Attributes:
        gamma: throughput of one.
        alpha: contention, the share that is serial.
        beta: coherence, what each pair costs.
    """

    gamma: float
    alpha: float
    beta: float

    def throughput(self, n: float) -> float:
        """X(N)."""
        return self.gamma * n / (1 + self.alpha * (n - 1) + self.beta * n * (n - 1))

    @property
    def peak(self) -> float | None:
        """The N beyond which more is less; None: there is none."""
        return sqrt((1 - self.alpha) / self.beta) if self.beta > 0 and self.alpha < 1 else None


def fit_usl(n: Sequence[float], throughput: Sequence[float]) -> Usl:
    """The law through measured points, by least squares of relative errors; alpha, beta >= 0.

    N / X is linear in the unknowns 1/gamma, alpha/gamma and beta/gamma. Growth beyond a straight
    line is fitted by a straight line.

    Args:
        n: sizes, three different ones at least.
        throughput: at each, above 0.

    Raises:
        ValueError: too few points.
    """
    from scipy.optimize import nnls

    if len(set(n)) < 3:
        raise ValueError("three different sizes are the least that three unknowns take")
    sizes, speeds = np.asarray(n, float), np.asarray(throughput, float)
    x = np.column_stack([np.ones_like(sizes), sizes - 1, sizes * (sizes - 1)])
    weights = speeds / sizes
    (base, serial, pairs), _ = nnls(x * weights[:, None], sizes / speeds * weights)
    return Usl(float(1 / base), float(serial / base), float(pairs / base))
