"""How long a batch of independent calls takes on a number of slots."""

from math import ceil
from typing import NamedTuple

import numpy as np

from mock_llm.distributions.base import STANDARD, Quantile

_Z = np.linspace(-8.0, 8.0, 8001)


def greatest_s(quantile: Quantile, n: int) -> float:
    """Mean of the greatest of n independent durations: the integral of 1 - F^n. Exact.

    David and Nagaraja, Order Statistics, 3rd ed., 3.1.

    Args:
        quantile: of a duration; must rise (see `general.rising_quantile`).
        n: how many.
    """
    share, value = _distribution(quantile)
    return float(value[0] + _under(1 - share**n, value))


class Makespan(NamedTuple):
    """Seconds that a batch takes, on average.

    Attributes:
        handed_out_s: until the last duration begins.
        rest_s: from then to the end.
    """

    handed_out_s: float
    rest_s: float

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.handed_out_s + self.rest_s


def makespan(quantile: Quantile, n: int, slots: int) -> Makespan:
    """How long so many slots take for n durations, each slot taking the next in turn.

    With n <= slots it is the mean of the greatest. Else a slot has no work left when all of it is
    handed out; at that moment the last duration begins, and those in the other slots are in their
    midst: as far as a renewal process is at a random moment (Cox, Renewal Theory, 1962, 5.1). Exact
    for one slot, for exponential and for constant durations, and as n / slots grows. The error is
    governed by handed_out_s / rest_s. Measured for lognormal durations: at a ratio of .2 +9 %, of
    .4 +4 to +16 %, of .7 +1 to +5 %, of 1.9 +2 %.

    Args:
        quantile: see `greatest_s`.
        n: durations.
        slots: at work.
    """
    if n <= slots:
        return Makespan(0.0, greatest_s(quantile, n))
    share, value = _distribution(quantile)
    if value[-1] == value[0]:
        return Makespan((ceil(n / slots) - 1) * float(value[0]), float(value[0]))
    mean = value[0] + _under(1 - share, value)
    steps = np.diff(value)
    left = np.concatenate([[0.0], np.cumsum((1 - (share[:-1] + share[1:]) / 2) * steps)]) + value[0]
    rest = left / mean  # share of the time left that is below a value
    residual = value[0] * (1 - rest[0] / 2) + _under(1 - rest, value)
    below = rest ** (slots - 1) * share
    # Below the least value nothing that has just begun has ended.
    last = value[0] + _under(1 - below, value)
    return Makespan(float(n * mean - (slots - 1) * residual - mean) / slots, float(last))


Array = np.ndarray[tuple[int], np.dtype[np.float64]]


def _distribution(quantile: Quantile) -> tuple[Array, Array]:
    """Shares and the values at them, close together at both ends."""
    share = np.array([STANDARD.cdf(float(z)) for z in _Z])
    ends = np.clip(share, 2.0**-53, 1 - 2.0**-53)
    return share, np.array([quantile(float(u)) for u in ends])


def _under(y: Array, x: Array) -> float:
    return float(np.trapezoid(y, x))
