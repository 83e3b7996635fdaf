"""A run's figures, as the JSON contract names them: all of them derived from its records."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from harness.attribution import STAGES, stages, verdict
from harness.records import LOST, Record, requests

Rows = Sequence[Record]


class Tally:
    """The requests of a run, each with its final outcome.

    A job past its hard deadline hands over nothing: then every request counts as timed out, and
    what was answered all the same is `answered`.
    """

    def __init__(self, records: Sequence[Record], *, job_failed: bool = False) -> None:
        self.requests: list[Rows] = list(requests(records))
        self.answered = sum(rows[-1].outcome == "ok" for rows in self.requests)
        self.outcomes: Counter[str] = Counter(
            "timed_out" if job_failed else rows[-1].outcome for rows in self.requests
        )
        slowest_s = max(
            (
                rows[-1].t_end - rows[-1].t_sent
                for rows in self.requests
                if rows[-1].outcome == "ok" and rows[-1].t_sent is not None
            ),
            default=0.0,
        )
        self.causes: dict[str, str] = {}
        self.verdicts: Counter[str] = Counter()
        for rows in self.requests:
            cause = verdict(rows, slowest_s)
            if cause is None and job_failed:
                cause = "job_deadline"
            if cause is not None:
                self.causes[rows[0].key] = cause
                self.verdicts[cause] += 1


def duration_s(records: Sequence[Record]) -> float:
    """First intended start to last end, seconds; 0 for no rows."""
    if not records:
        return 0.0
    return max(row.t_end for row in records) - min(row.t_intended for row in records)


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Mean, p50, p90, p95, p99 (linear interpolation) and max; zeros for no values."""
    if not values:
        return dict.fromkeys(("mean", "p50", "p90", "p95", "p99", "max"), 0.0)
    p50, p90, p95, p99 = np.quantile(values, (0.5, 0.9, 0.95, 0.99)).tolist()
    return {
        "mean": sum(values) / len(values),
        "p50": p50,
        "p90": p90,
        "p95": p95,
        "p99": p99,
        "max": max(values),
    }


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson, J. Am. Stat. Assoc. 22, 1927); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the edges the interval ends there exactly, which rounding would miss.
    low = (centre - half) / scale if successes else 0.0
    return low, (centre + half) / scale if successes < n else 1.0


def accuracy(answers: Mapping[str, str | None], truths: Mapping[str, str]) -> dict[str, Any]:
    """Share of answered requests labelled rightly, of those whose truth is known.

    `value` is None when there is nothing to judge. The interval takes labels for independent, which
    they are: a label is keyed by its request alone and shares no queue with others.
    """
    judged = [label == truths[key] for key, label in answers.items() if key in truths]
    low, high = wilson(sum(judged), len(judged))
    value = sum(judged) / len(judged) if judged else None
    return {"value": value, "low": low, "high": high, "n": len(judged)}


def barrier_s(rows: Sequence[Rows]) -> dict[str, float]:
    """Seconds that each request, having ended, waited for its wave's last: key -> seconds.

    A wave is what joined the queue at one moment. Where a run is a single wave nothing waits, nor
    does what was never admitted: a job's deadline met it before it was in any wave.
    """
    ends: dict[float, float] = {}
    # The earliest of its rows: a hedge joins no queue.
    waves = [min(row.t_queued for row in attempts) for attempts in rows]
    for wave, attempts in zip(waves, rows, strict=True):
        if attempts[0].t_admitted is not None:
            ends[wave] = max(ends.get(wave, 0.0), attempts[-1].t_end)
    waited = {
        a[0].key: ends.get(wave, 0.0) - a[-1].t_end for wave, a in zip(waves, rows, strict=True)
    }
    alone = len(ends) < 2
    return {key: 0.0 if alone else max(0.0, seconds) for key, seconds in waited.items()}


def time_s(rows: Sequence[Rows]) -> dict[str, float]:
    """Mean seconds of a request in each stage, and behind the barrier once it was done."""
    if not rows:
        return dict.fromkeys((*STAGES, "barrier"), 0.0)
    totals: dict[str, float] = dict.fromkeys(STAGES, 0.0)
    for attempts in rows:
        for stage, seconds in stages(attempts).items():
            totals[stage] += seconds
    totals["barrier"] = sum(barrier_s(rows).values())
    return {stage: total / len(rows) for stage, total in totals.items()}


def paid_tokens(rows: Rows) -> int:
    """Tokens that serving this request takes once, paid for or saved by the cache."""
    last = rows[-1]
    return last.prompt_tokens + last.completion_tokens if last.outcome == "ok" else 0


def batch_s(rows: Sequence[Rows], size: int) -> dict[str, float]:
    """Seconds of a batch: every `size` completions, whether or not a barrier parts them.

    Returns:
        First, median and last of them; zeros without a full one.
    """
    ends = sorted(attempts[-1].t_end for attempts in rows)[size - 1 :: size]
    if not ends:
        return dict.fromkeys(("first", "p50", "last"), 0.0)
    began = min(attempts[0].t_intended for attempts in rows)
    lengths = [b - a for a, b in pairwise([began, *ends])]
    return {"first": lengths[0], "p50": median(lengths), "last": lengths[-1]}


def cache_figures(tally: Tally, repeats_in_input: float) -> dict[str, Any]:
    """Lookups, hits and their share, beside the share of repeats in the input."""
    states = Counter(rows[-1].cache for rows in tally.requests)
    hits = states["hit"] + states["near"]
    lookups = hits + states["miss"]
    return {
        "lookups": lookups,
        "hits": hits,
        "hit_rate": hits / lookups if lookups else 0.0,
        "repeats_in_input": repeats_in_input,
    }


def shares(tally: Tally) -> dict[str, float]:
    """Model -> share of requests, most used first."""
    models = Counter(rows[0].model for rows in tally.requests)
    return {model: count / len(tally.requests) for model, count in models.most_common()}


def costs(records: Sequence[Record]) -> dict[str, float]:
    """Model -> dollars spent on it, retried and abandoned attempts included, dearest first."""
    spent: dict[str, float] = {}
    for row in records:
        spent[row.model] = spent.get(row.model, 0.0) + row.cost_usd
    return dict(sorted(spent.items(), key=lambda item: -item[1]))


def _is_ok(rows: Rows) -> bool:
    return rows[-1].outcome == "ok"


def attempts_sent(records: Sequence[Record]) -> int:
    """HTTP calls that were put on the wire."""
    return sum(row.t_sent is not None for row in records)


def summary(
    records: Sequence[Record],
    *,
    baseline_usd_per_m: float,
    repeats_in_input: float,
    job_failed: bool,
    batch_size: int = 10,
    ends: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Every figure of a run that its rows determine; keys as in the JSON contract.

    Args:
        records: all rows.
        baseline_usd_per_m: of the baseline's tokens.
        repeats_in_input: share of the reviews.
        job_failed: see `Tally`.
        batch_size: see `batch_s`.
        ends: request key -> when whoever asked had its answer, where it is not its last row's end.
    """
    tally = Tally(records, job_failed=job_failed)
    n, ok = len(tally.requests), tally.outcomes["ok"]
    length = duration_s(records)
    cost = math.fsum(row.cost_usd for row in records)
    baseline = sum(map(paid_tokens, tally.requests)) * baseline_usd_per_m / 1e6
    ended = ends or {}
    latencies = [ended.get(r[0].key, r[-1].t_end) - r[0].t_intended for r in tally.requests]
    # A refusal takes no time at all: where many are refused, the figure over all says little.
    ok_only = [took for took, r in zip(latencies, tally.requests, strict=True) if _is_ok(r)]
    services = [row.t_end - row.t_sent for row in records if row.t_sent is not None]
    return {
        "requests": n,
        **{outcome: tally.outcomes[outcome] for outcome in ("ok", "timed_out", "failed")},
        "rejected": tally.outcomes["rejected"],
        "lost": sum(rows[-1].error == LOST for rows in tally.requests),
        "answered": tally.answered,
        "attempts": attempts_sent(records),
        "duration_s": length,
        "throughput_per_s": ok / length if length > 0 else 0.0,
        "success_rate": ok / n if n else 0.0,
        "latency_s": quantiles(latencies),
        "latency_ok_s": quantiles(ok_only),
        "service_s": quantiles(services),
        "time_s": time_s(tally.requests),
        "batch_s": batch_s(tally.requests, batch_size),
        "timeout_rate": tally.outcomes["timed_out"] / n if n else 0.0,
        "cost_usd": cost,
        "baseline_cost_usd": baseline,
        "cost_reduction": 1 - cost / baseline if baseline else 0.0,
        "cache": cache_figures(tally, repeats_in_input),
        "routing": shares(tally),
        "cost_by_model_usd": costs(records),
        "verdicts": dict(tally.verdicts.most_common()),
    }
