"""How wrong the approximations are, against the recursion of Kiefer and Wolfowitz."""

from collections.abc import Callable
from heapq import heapreplace

import numpy as np
import pytest

from harness.statistics import Interval, interval
from harness.theory.erlang import MMc
from harness.theory.general import Moments, allen_cunneen, sakasegawa

Array = np.ndarray[tuple[int], np.dtype[np.float64]]
Draw = Callable[[np.random.Generator, int], Array]
RUNS, LENGTH, WARM_UP = 8, 120_000, 10_000


def exponential(random: np.random.Generator, n: int) -> Array:
    """Unit mean, cv2 1."""
    return random.exponential(1.0, n)


def constant(_: np.random.Generator, n: int) -> Array:
    """Unit mean, cv2 0."""
    return np.ones(n)


def bursty(random: np.random.Generator, n: int) -> Array:
    """Unit mean, gamma of cv2 4."""
    return random.gamma(0.25, 4.0, n)


def heavy(random: np.random.Generator, n: int) -> Array:
    """Unit mean, lognormal of cv2 4."""
    variance = np.log(5)
    return random.lognormal(-variance / 2, variance**0.5, n)


def mean_wait(gaps: Draw, service: Draw, servers: int, rho: float) -> Interval:
    """Mean wait in G/G/c, first come first served: who comes takes the first server to be free."""
    means = []
    for seed in range(RUNS):
        random = np.random.default_rng(seed)
        arrivals = np.cumsum(gaps(random, LENGTH) / (rho * servers))
        free, waited = [0.0] * servers, 0.0
        pairs = zip(arrivals.tolist(), service(random, LENGTH).tolist(), strict=True)
        for n, (arrival, length) in enumerate(pairs):
            begin = max(free[0], arrival)
            heapreplace(free, begin + length)
            waited += begin - arrival if n >= WARM_UP else 0.0
        means.append(waited / (LENGTH - WARM_UP))
    return interval(means)


def test_the_recursion_is_right_where_the_truth_is_known() -> None:
    """It has Erlang's mean wait in its interval."""
    assert mean_wait(exponential, exponential, 5, 0.8).contains(MMc(4.0, 1.0, 5).wait_s)


@pytest.mark.parametrize(
    ("gaps", "ca2", "service", "cs2", "servers", "rho", "error"),
    [
        (exponential, 1.0, constant, 0.0, 5, 0.8, -0.038),
        (exponential, 1.0, heavy, 4.0, 5, 0.8, 0.18),
        (bursty, 4.0, exponential, 1.0, 5, 0.8, -0.21),
        (bursty, 4.0, exponential, 1.0, 50, 0.9, -0.34),
    ],
)
def test_the_errors_of_the_approximations_are_as_stated(
    gaps: Draw, ca2: float, service: Draw, cs2: float, servers: int, rho: float, error: float
) -> None:
    """Allen and Cunneen are off by what their docstring says, and Sakasegawa is like them."""
    true = mean_wait(gaps, service, servers, rho)
    law, arrival = Moments(1.0, cs2), rho * servers
    off = allen_cunneen(arrival, ca2, law, servers) / true.mean - 1
    assert abs(off - error) <= 0.01 + 1.5 * true.relative * (1 + off)
    assert sakasegawa(arrival, ca2, law, servers) / true.mean - 1 == pytest.approx(off, abs=0.05)
