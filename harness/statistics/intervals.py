"""Confidence intervals over independent runs, and what may be concluded from them."""

from collections.abc import Sequence
from math import inf, sqrt
from typing import Literal

import msgspec
import numpy as np

Answer = Literal["better", "worse", "inconclusive"]
ENOUGH_RUNS = 8
"""Fewer runs estimate their own scatter too badly to stop on it."""


class Interval(msgspec.Struct, frozen=True):
    """Where the mean lies, in the unit of the values.

    Attributes:
        mean: of the values.
        half_width: the mean lies so far from the truth at most; infinite where nothing is known.
        n: values that it is made of.
        confidence: how often such an interval holds the truth, in 0-1.
    """

    mean: float
    half_width: float
    n: int
    confidence: float

    @property
    def low(self) -> float:
        """Its lower end."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Its upper end."""
        return self.mean + self.half_width

    @property
    def relative(self) -> float:
        """Half-width over the mean's size; infinite around 0, unless it is exact."""
        if not self.half_width:
            return 0.0
        return self.half_width / abs(self.mean) if self.mean else inf

    def contains(self, value: float) -> bool:
        """Whether a value is in it, its ends included."""
        return self.low <= value <= self.high


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The t interval of a mean (Student, The probable error of a mean, Biometrika 6, 1908).

    Args:
        values: one for each run; runs must be independent. A single one has no half-width.
        confidence: in 0-1.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values, and so no mean")
    n = len(values)
    centre = float(np.mean(values))
    if n == 1:
        return Interval(centre, inf, n, confidence)
    scatter = float(np.std(values, ddof=1))
    return Interval(centre, student_t(confidence, n - 1) * scatter / sqrt(n), n, confidence)


def paired(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Interval:
    """The interval of the mean of a - b over runs on common random numbers.

    What both runs of a seed have in common drops out of their difference, so that it scatters far
    less than either (Law and Kelton, Simulation Modeling and Analysis, 3rd ed., 10.2.1 and 11.2).

    Raises:
        ValueError: they are not of the same seeds, one by one.
    """
    return interval([x - y for x, y in zip(a, b, strict=True)], confidence)


def controlled(
    values: Sequence[float],
    controls: Sequence[Sequence[float]],
    expected: Sequence[float],
    confidence: float = 0.95,
) -> Interval:
    """The interval of a mean, freed from the luck that known quantities of the same runs betray.

    Control variates, their weights by least squares (Lavenberg and Welch, Management Science
    27(3), 1981; Law and Kelton, 11.4): the intercept of values on controls - expected.

    Args:
        values: one for each run.
        controls: for each run the quantities whose true means are known.
        expected: these means.
        confidence: in 0-1.

    Raises:
        ValueError: fewer runs than it takes to estimate the weights and the scatter.
    """
    x = np.column_stack([np.ones(len(values)), np.asarray(controls) - np.asarray(expected)])
    n, weights = x.shape
    if n <= weights:
        raise ValueError(f"{n} runs are too few for {weights - 1} controls")
    beta, *_ = np.linalg.lstsq(x, np.asarray(values), rcond=None)
    left = np.asarray(values) - x @ beta
    variance = float(left @ left) / (n - weights) * float(np.linalg.inv(x.T @ x)[0, 0])
    half_width = student_t(confidence, n - weights) * sqrt(variance)
    return Interval(float(beta[0]), half_width, n, confidence)


def enough(
    values: Sequence[float],
    relative: float,
    *,
    at_least: int = ENOUGH_RUNS,
    confidence: float = 0.95,
) -> bool:
    """Whether a mean is known to a relative error, so that no further run is needed.

    Asked after each run (the sequential procedure of Law and Kelton, 9.4.1). The half-width is held
    against relative / (1 + relative) of the mean, for the mean is an estimate too.

    Args:
        values: one for each run so far.
        relative: error of the mean that is wanted, in 0-1.
        at_least: runs before which the answer is no.
        confidence: in 0-1.
    """
    if len(values) < max(2, at_least):
        return False
    return interval(values, confidence).relative <= relative / (1 + relative)


def compare(
    a: Sequence[float],
    b: Sequence[float],
    *,
    higher_is_better: bool,
    confidence: float = 0.95,
    indifference: float = 0.0,
) -> Answer:
    """Whether a is better than b, of which there are runs on the same seeds.

    Args:
        a: one value for each seed.
        b: likewise, in the same order.
        higher_is_better: of the values.
        confidence: with which it is said.
        indifference: a difference of the means that would change nothing, in the values' unit.

    Raises:
        ValueError: they are not of the same seeds, one by one, or there are none.
    """
    gain = paired(a, b, confidence) if higher_is_better else paired(b, a, confidence)
    if gain.low > indifference:
        return "better"
    return "worse" if gain.high < -indifference else "inconclusive"


def student_t(confidence: float, freedom: int) -> float:
    """The quantile that leaves half of 1 - confidence above it, for so many degrees of freedom."""
    from scipy.special import stdtrit  # a tenth of a second: only for those who ask

    return float(stdtrit(freedom, (1 + confidence) / 2))
