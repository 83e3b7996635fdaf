"""What a finished run says of a longer one: time, money and success, with intervals.

Theory of operation. The completions of a run are cut into blocks of equally many requests. A longer
run is more such blocks, so its length is a sum of as many draws from the same law, and the interval
is a prediction interval: it has the scatter of the blocks to come as well as that of the mean that
is known (Hahn and Meeker, Statistical Intervals, 1991, 4.5: of a future sample's mean). Blocks, not
requests, for those of one run share its slots and its batches.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from statistics import fmean, stdev

import msgspec

from harness.metrics import wilson
from harness.records import Record, requests
from harness.statistics import Interval, mser5, student_t

BLOCKS = 20
FEWEST = 4
CONFIDENCE = 0.95


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a job of that size is expected to do, if the rest is like what was seen.

    Attributes:
        reviews: of the job.
        duration_s: how long it takes; the interval holds its one run, not only its mean.
        cost_usd: dollars, likewise.
        throughput_per_s: requests ended per second: reviews over `duration_s`, its ends turned.
        success_low: least share of answered requests to be expected, 0-1.
        success_high: greatest.
    """

    reviews: int
    duration_s: Interval
    cost_usd: Interval
    throughput_per_s: tuple[float, float]
    success_low: float
    success_high: float


def forecast(
    records: Sequence[Record], sizes: Sequence[int], *, batch_size: int = 1
) -> tuple[list[Forecast], int]:
    """Forecasts from one run.

    Args:
        records: of the run, all of it.
        sizes: of the jobs.
        batch_size: requests that end together, where there is a barrier: no block cuts them.

    Returns:
        One forecast for each size, and how many requests were left out as warm-up; no forecast
        where the run is too short to be cut into four blocks.
    """
    ended = sorted((rows[-1].t_end, rows) for rows in requests(records))
    starts = min((rows[0].t_intended for _, rows in ended), default=0.0)
    costs = [sum(row.cost_usd for row in rows) for _, rows in ended]
    ends = [starts, *(end for end, _ in ended)]
    skipped = _warm_up(ends, batch_size)
    size = _block(len(ended) - skipped, batch_size)
    if size is None:
        return [], 0
    cuts = list(range(skipped, len(ended) + 1, size))
    lengths = [ends[b] - ends[a] for a, b in pairwise(cuts)]
    spent = [sum(costs[a:b]) for a, b in pairwise(cuts)]
    answered = sum(rows[-1].outcome == "ok" for _, rows in ended)
    low, high = wilson(answered, len(ended))
    told = []
    for count in sizes:
        duration = _sum_of(lengths, count / size, ends[skipped] - starts, skipped / size)
        told.append(
            Forecast(
                reviews=count,
                duration_s=duration,
                cost_usd=_sum_of(spent, count / size, sum(costs[:skipped]), skipped / size),
                throughput_per_s=(count / duration.high, count / max(duration.low, 1e-9)),
                success_low=low,
                success_high=high,
            )
        )
    return told, skipped


def _warm_up(ends: Sequence[float], batch_size: int) -> int:
    """Requests at the beginning that are not like the rest."""
    taken = [ends[n] for n in range(0, len(ends), batch_size)]
    cut = mser5([[b - a for a, b in pairwise(taken)]])
    return (cut or 0) * batch_size


def _block(count: int, batch_size: int) -> int | None:
    """Requests of a block: a whole number of batches, about twenty blocks in all."""
    size = max(1, count // (BLOCKS * batch_size)) * batch_size
    return size if count // size >= FEWEST else None


def _sum_of(blocks: Sequence[float], more: float, begun: float, begun_blocks: float) -> Interval:
    """The sum of so many blocks, of which the first were seen as warm-up."""
    left = max(more - begun_blocks, 0.0)
    n = len(blocks)
    half = student_t(CONFIDENCE, n - 1) * stdev(blocks) * sqrt(left + left * left / n)
    return Interval(begun + left * fmean(blocks), half, n, CONFIDENCE)
