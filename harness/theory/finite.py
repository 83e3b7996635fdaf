"""Queues with an end: a full waiting room (M/M/c/K), or a finite number of users (M/M/c//N)."""

import msgspec
import numpy as np

from harness.theory.erlang import sojourn_exceeds
from harness.theory.roots import above_zero

Array = np.ndarray[tuple[int], np.dtype[np.float64]]


class Queue(msgspec.Struct, frozen=True):
    """The steady state of a queue with exponential service whose numbers are bounded.

    Attributes:
        present: probability of n in the system at any time, n = 0, 1, ...
        found: probability that a request which is let in finds n there.
        lost: share of requests that are refused.
        throughput: requests served a second.
        service_s: mean.
        servers: c.
    """

    present: tuple[float, ...]
    found: tuple[float, ...]
    lost: float
    throughput: float
    service_s: float
    servers: int

    @property
    def sojourn_s(self) -> float:
        """Mean time from arrival to answer of those let in: L / X (Little)."""
        mean = float(np.arange(len(self.present)) @ np.asarray(self.present))
        return mean / self.throughput

    @property
    def wait_s(self) -> float:
        """Mean wait of those let in."""
        return self.sojourn_s - self.service_s

    def sojourn_quantile_s(self, share: float, instant: float = 0.0) -> float:
        """The time that so large a share does not exceed.

        Args:
            share: in 0-1.
            instant: share of all requests that take no time at all, such as refusals.
        """
        late = (1 - share) / (1 - instant)
        if late >= 1:
            return 0.0
        exceeds = sojourn_exceeds
        return above_zero(
            lambda t: exceeds(self.found, self.servers, self.service_s, t) - late, self.sojourn_s
        )


def mmck(arrival: float, service_s: float, servers: int, places: int) -> Queue:
    """M/M/c/K: Poisson arrivals, exponential service, and whoever finds K present is refused.

    Gross et al., Fundamentals of Queueing Theory, 4th ed., 2.4. By PASTA those let in find n < K
    present with the probability p_n / (1 - p_K).

    Args:
        arrival: per second.
        service_s: mean.
        servers: c.
        places: K, those in service included; at least c.
    """
    p = _steady(np.full(places, arrival), service_s, servers)
    lost = float(p[-1])
    found = p[:-1] / p[:-1].sum()
    return Queue(
        tuple(p.tolist()), tuple(found.tolist()), lost, arrival * (1 - lost), service_s, servers
    )


def closed(users: int, think_s: float, service_s: float, servers: int) -> Queue:
    """N users who think, ask, and wait for their answer: exponential service, any law of thinking.

    The machine repair model M/M/c//N (Gross et al., 2.7); thinking is an infinite-server station,
    of which only the mean matters (Baskett, Chandy, Muntz and Palacios, J. ACM 22(2), 1975). An
    arrival finds what N - 1 users leave behind (Lavenberg and Reiser, J. Appl. Prob. 17, 1980).

    Args:
        users: N.
        think_s: mean, above 0.
        service_s: mean.
        servers: c.
    """
    p = _steady(np.arange(users, 0, -1) / think_s, service_s, servers)
    others = _steady(np.arange(users - 1, 0, -1) / think_s, service_s, servers)
    busy = np.minimum(np.arange(users + 1), servers)
    throughput = float(busy @ p) / service_s
    return Queue(tuple(p.tolist()), tuple(others.tolist()), 0.0, throughput, service_s, servers)


def _steady(arrival: Array, service_s: float, servers: int) -> Array:
    """Of a birth and death chain on 0..n, by its n rates of arrival; logarithms do not overflow."""
    busy = np.minimum(np.arange(1, len(arrival) + 1), servers)
    logs = np.concatenate([[0.0], np.cumsum(np.log(arrival * service_s / busy))])
    p: Array = np.exp(logs - logs.max())
    return np.asarray(p / p.sum(), float)
