"""Poisson arrivals, exponential service, c servers: the queues that Erlang solved."""

from collections.abc import Sequence
from math import exp, inf, log

import msgspec
import numpy as np

from harness.theory.roots import above_zero


def erlang_b(servers: int, load: float) -> float:
    """Share of calls that find all servers busy where nobody waits: M/G/c/c, any service law.

    Erlang (Solution of some problems in the theory of probabilities, 1917), by the recursion
    1/B(n) = 1 + n/(a B(n-1)), which loses no digits.

    Args:
        servers: 0 or more.
        load: in erlangs.
    """
    inverse = 1.0
    for n in range(1, servers + 1):
        inverse = 1 + inverse * n / load if load else inf
    return 1 / inverse


def erlang_c(servers: int, load: float) -> float:
    """Share of calls that must wait in M/M/c: B / (1 - rho (1 - B)); 1 where load >= servers."""
    if load >= servers:
        return 1.0
    blocked = erlang_b(servers, load)
    return blocked / (1 - load / servers * (1 - blocked))


class MMc(msgspec.Struct, frozen=True):
    """M/M/c: Poisson arrivals, exponential service, an endless queue, first come first served.

    Formulas as in Gross, Shortle, Thompson and Harris, Fundamentals of Queueing Theory, 4th ed.,
    2.3. In overload (rho >= 1) there is no steady state: waits are infinite.

    Attributes:
        arrival: per second.
        service_s: mean.
        servers: c.
    """

    arrival: float
    service_s: float
    servers: int

    @property
    def load(self) -> float:
        """Offered load in erlangs."""
        return self.arrival * self.service_s

    @property
    def rho(self) -> float:
        """Share of the servers that is busy."""
        return self.load / self.servers

    @property
    def p_wait(self) -> float:
        """Share of requests that wait at all: Erlang C."""
        return erlang_c(self.servers, self.load)

    @property
    def wait_s(self) -> float:
        """Mean wait in the queue: C / (c mu - lambda)."""
        spare = self.servers / self.service_s - self.arrival
        return self.p_wait / spare if spare > 0 else inf

    @property
    def queue(self) -> float:
        """Mean number in the queue: lambda Wq (Little)."""
        return self.arrival * self.wait_s

    @property
    def sojourn_s(self) -> float:
        """Mean time from arrival to answer."""
        return self.wait_s + self.service_s

    def sojourn_exceeds(self, t: float) -> float:
        """Share of requests that take longer than t seconds, wait and service."""
        mu, c = 1 / self.service_s, self.servers
        free, spare = exp(-mu * t), c * mu - self.arrival
        if spare <= 0:
            return 1.0
        if abs(spare - mu) < 1e-9 * mu:  # both rates alike: the sum is an Erlang-2
            waited = exp(-mu * t) * (1 + mu * t)
        else:
            waited = (spare * free - mu * exp(-spare * t)) / (spare - mu)
        return (1 - self.p_wait) * free + self.p_wait * waited

    def sojourn_quantile_s(self, share: float) -> float:
        """The time that so large a share of requests does not exceed; infinite in overload."""
        if self.rho >= 1:
            return inf
        return above_zero(lambda t: self.sojourn_exceeds(t) - (1 - share), self.sojourn_s)


def sojourn_exceeds(found: Sequence[float], servers: int, service_s: float, t: float) -> float:
    """Share of requests that take longer than t, by what they find when they come.

    Whoever finds n >= c present waits for n - c + 1 of the departures, which come at rate c mu, and
    is then served (FCFS; Gross et al., 2.3.2).

    Args:
        found: probability that an arrival which is let in finds n present, n = 0, 1, ...
        servers: c.
        service_s: mean, exponential.
        t: seconds.
    """
    from scipy.special import gammainc, gammaincc

    p = np.asarray(found)
    x, c = t / service_s, servers
    free = float(p[:c].sum()) * exp(-x)
    k = np.arange(1, len(p) - c + 1)
    if not len(k):
        return free
    if c == 1:
        return free + float(p[1:] @ gammaincc(k + 1, x))
    # An Erlang of rate c mu, then an exponential of rate mu.
    with np.errstate(divide="ignore"):
        last = np.exp(k * log(c / (c - 1)) - x + np.log(gammainc(k, (c - 1) * x)))
    return free + float(p[c:] @ (gammaincc(k, c * x) + last))


def all_busy(servers: int, load: float) -> float:
    """Share of Poisson arrivals that would find c or more in service, were there enough servers.

    The number in M/G/infinity is Poisson whatever the law of service (Palm, 1943; Gross et al.,
    5.2.2). Where it is next to nothing, c servers are as good as infinitely many.
    """
    from scipy.special import pdtrc

    return float(pdtrc(servers - 1, load))


def all_users_busy(servers: int, users: int, busy: float) -> float:
    """The same where N users are each busy for a share of their time: binomial (N - 1, busy)."""
    from scipy.special import bdtrc

    return float(bdtrc(servers - 1, users - 1, busy)) if users > servers else 0.0
