"""What happens along a run: where its warm-up ends, and what one long run says by itself."""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

import msgspec
import numpy as np

from harness.statistics.intervals import Interval, interval

MSER_BATCH = 5


class BatchMeans(msgspec.Struct, frozen=True):
    """What one long run says of its mean.

    Attributes:
        interval: of the means of its batches; to be believed only where `independent`.
        correlation: of neighbouring batches' means, in -1 to 1.
        independent: whether the check finds nothing against it.
    """

    interval: Interval
    correlation: float
    independent: bool


def mser5(runs: Sequence[Sequence[float]]) -> int | None:
    """How many observations of every run are warm-up.

    The cut that leaves the mean of the rest with the least standard error, looked for in batches of
    five over the first half (White, An effective truncation heuristic for bias reduction in
    simulation output, Simulation 69(6), 1997; as MSER-5 by White, Cobb and Spratt, WSC 2000). Runs
    are pooled: the n-th observations are averaged first (Welch, 1983), which leaves the trend and
    takes away the scatter.

    Args:
        runs: the observations of each in order of time; they are cut to the shortest.

    Returns:
        Observations to drop; None when the least is at the end of the search: the runs are too
        short to tell.
    """
    shortest = min((len(run) for run in runs), default=0)
    batches = shortest // MSER_BATCH
    if batches < 4:
        return None
    pooled = np.mean([run[: batches * MSER_BATCH] for run in runs], axis=0)
    means = pooled.reshape(batches, MSER_BATCH).mean(axis=1)
    left = np.arange(batches, 0, -1)
    # Sums from each batch to the end give the variance of what each cut leaves.
    sums, squares = (np.cumsum(x[::-1])[::-1] for x in (means, (means - means.mean()) ** 2))
    deviation = sums / left - means.mean()
    error = (squares - left * deviation**2) / left**2
    half = batches // 2
    cut = int(np.argmin(error[: half + 1]))
    return None if cut == half else cut * MSER_BATCH


def batch_means(values: Sequence[float], batches: int = 20, confidence: float = 0.95) -> BatchMeans:
    """The interval of a mean from one long run, by the means of its batches.

    See Law and Kelton, Simulation Modeling and Analysis, 3rd ed., 9.5.3. Batches that are too short
    are not independent, and their interval is too narrow. The check is von Neumann's ratio of the
    batch means, one-sided at 5 % (Fishman, Grouping observations in digital simulation, Management
    Science 24(5), 1978).

    Args:
        values: in order of time, warm-up taken off; what is left over at the end is not used.
        batches: how many; Schmeiser (Operations Research 30(3), 1982): 10 to 30 will do.
        confidence: in 0-1.

    Raises:
        ValueError: fewer than three batches, or fewer values than batches.
    """
    size = len(values) // batches
    if batches < 3 or not size:
        raise ValueError(f"{len(values)} values make no {batches} batches; three are the least")
    means = np.reshape(values[: size * batches], (batches, size)).mean(axis=1)
    off = means - means.mean()
    total = float(off @ off)
    correlation = float(off[:-1] @ off[1:]) / total if total else 0.0
    ends = (off[0] ** 2 + off[-1] ** 2) / (2 * total) if total else 0.0
    statistic = sqrt((batches**2 - 1) / (batches - 2)) * (correlation + ends)
    independent = bool(statistic <= NormalDist().inv_cdf(0.95))
    return BatchMeans(interval(means.tolist(), confidence), correlation, independent)
