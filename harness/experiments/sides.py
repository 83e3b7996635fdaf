"""Two runs, or two sets of them, side by side; and what may be concluded from the difference.

Theory of operation. Runs on the same seeds have met the same weather, so they are compared seed by
seed: that is the interval to believe. One run against one has no scatter of runs to go by; where
both have the same requests, those are compared one by one. They share queues, so they are no
independent trials: the interval is over means of stretches of the run, and where neighbouring
stretches are still alike there is none. It is about this weather and no other.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from statistics import fmean
from typing import Any

from harness.errors import InputError
from harness.experiments.kept import Kept, requests_of
from harness.scenario.slo import ADDED
from harness.statistics import Interval, batch_means, paired

STRETCHES, LEAST = (20, 10, 5), 60
"""Means that an interval over requests is of (fewer where neighbours are alike: longer stretches),
and requests that it takes."""
DIGITS = 9
"""Of seconds and dollars; what differs beyond is how sums are rounded."""
_FIGURES = (
    *("requests", "ok", "success_rate", "timed_out", "timeout_rate", "failed", "rejected", "lost"),
    *("latency_s.mean", "latency_s.p50", "latency_s.p95", "latency_s.p99", "throughput_per_s"),
    *("duration_s", "attempts", "cost_usd", "recovery_s", *(f"added_s.{name}" for name in ADDED)),
)
_PAIRED = ("latency_s of a request", "cost_usd of a request")
_MORE_IS_BETTER = {"ok", "success_rate", "throughput_per_s"}
_NO_MERIT = ("requests", "duration_s", "attempts", "verdicts.")


def compared(left: Kept, right: Kept) -> dict[str, Any]:
    """Both sides, each figure of them, and notes on what they are worth.

    Returns:
        `scenario`; `left` and `right`; `figures`, each with `metric`, `left`, `right` (over several
        seeds the mean; None: not measured), `difference` (right - left), its `half_width_95` (None:
        nothing to tell it by), `n` (pairs that it is of) and `right_is`: better, worse, equal,
        inconclusive, or None where nothing can be asked; `notes`.

    Raises:
        InputError: they are of different scenarios, a side is no single variant and engine, or
            see `requests_of`.
    """
    one, other = (side.runs[0]["scenario"] for side in (left, right))
    if one != other:
        both = f"{left.where} is of {one!r} and {right.where} of {other!r}"
        raise InputError(f"{both}: name two of one")
    for side in (left, right):
        kinds = dict.fromkeys(f"{run['variant']} {run['engine']}" for run in side.runs)
        if len(kinds) > 1 or len(_seeds(side)) < len(side.runs):
            several = ", ".join(kinds)
            raise InputError(f"{side.where}: has several runs, {several}: name the folder of one")
    causes = dict.fromkeys(why for run in (*left.runs, *right.runs) for why in run["verdicts"])
    metrics = (*_FIGURES, *(f"verdicts.{why}" for why in causes))
    figures = [_figure(metric, left, right) for metric in metrics]
    pairs, notes = _by_request(left, right) if len(left.runs) == len(right.runs) == 1 else ([], [])
    if _seeds(left) != _seeds(right):
        notes.append("the seeds differ: each side has met a weather of its own")
    return {
        "scenario": one,
        "left": _told(left),
        "right": _told(right),
        "figures": [*(f for f in figures if (f["left"], f["right"]) != (None, None)), *pairs],
        "notes": [*notes, *_invalid("left", left), *_invalid("right", right)],
    }


def _seeds(side: Kept) -> set[int]:
    return {run["seed"] for run in side.runs}


def _told(side: Kept) -> dict[str, Any]:
    """What a side is, and which promises it missed; theory may not know of some."""
    checks = [check for run in side.runs for check in run["slo"]["checks"]]
    missed = [f"{it['metric']} {it['bound']}" for it in checks if it["passed"] is False]
    about = {name: side.runs[0][name] for name in ("variant", "engine")}
    return {**about, "seeds": sorted(_seeds(side)), "missed": list(dict.fromkeys(missed))}


def _invalid(name: str, side: Kept) -> Iterator[str]:
    reasons = dict.fromkeys(why for run in side.runs for why in run["invalid_reasons"])
    if not all(run["valid"] for run in side.runs):
        yield f"the {name} is INVALID, its figures say nothing: {'; '.join(reasons)}"


def _figure(metric: str, left: Kept, right: Kept) -> dict[str, Any]:
    """A figure of reports; over several seeds, the same on both sides, with its interval."""
    sides = [{run["seed"]: _at(run, metric) for run in side.runs} for side in (left, right)]
    ours, theirs = (
        [value for _, value in sorted(side.items()) if value is not None] for side in sides
    )
    alike = sides[0].keys() == sides[1].keys() and len(ours) == len(theirs) == len(sides[0]) > 1
    return _row(metric, ours, theirs, paired(theirs, ours) if alike else None)


def _row(
    metric: str, ours: Sequence[float], theirs: Sequence[float], span: Interval | None
) -> dict[str, Any]:
    """The means of both sides; their difference, with its interval and what that means."""
    left, right = (fmean(side) if side else None for side in (ours, theirs))
    return {
        "metric": metric,
        "left": left,
        "right": right,
        "difference": None if left is None or right is None else right - left,
        "half_width_95": None if span is None or span.half_width == inf else span.half_width,
        "n": 1 if span is None else span.n,
        "right_is": None if span is None else _answer(metric, span),
    }


def _answer(metric: str, span: Interval) -> str | None:
    if metric.startswith(_NO_MERIT):
        return None
    if not span.mean and not span.half_width:
        return "equal"
    if span.contains(0.0):
        return "inconclusive"
    return "better" if (span.mean > 0) is (metric in _MORE_IS_BETTER) else "worse"


def _by_request(left: Kept, right: Kept) -> tuple[list[dict[str, Any]], list[str]]:
    """Both runs request by request, where both have the same; and why not where they have not."""
    ours, theirs = requests_of(left), requests_of(right)
    if not ours or not theirs:
        return [], ["no rows to pair requests by: name the folders of two runs for that"]
    if ours.keys() != theirs.keys():
        both, every = len(ours.keys() & theirs.keys()), len(ours.keys() | theirs.keys())
        return [], [f"no pairs: {both:,} of {every:,} requests are in both runs"]
    rows = []
    for at, name in enumerate(_PAIRED, 1):  # in the order in which they began on the left
        pairs = [(ours[key][at], theirs[key][at]) for key in sorted(ours, key=lambda k: ours[k])]
        a, b = ([round(value, DIGITS) for value in side] for side in zip(*pairs, strict=True))
        gaps = [y - x for x, y in zip(a, b, strict=True)]
        half_width = _half_width(gaps) if any(gaps) else 0.0
        rows.append(_row(name, a, b, Interval(fmean(gaps), half_width, len(gaps), 0.95)))
    return rows, []


def _half_width(gaps: Sequence[float]) -> float:
    """Of the 95 % interval of their mean, by stretches that are independent; else infinite."""
    tried = (batch_means(gaps, many) for many in STRETCHES if len(gaps) >= LEAST)
    return next((one.interval.half_width for one in tried if one.independent), inf)


def _at(report: Mapping[str, Any], path: str) -> float | None:
    """A figure; a cause that a run did not have is 0, what it did not measure None."""
    top, _, part = path.partition(".")
    value: Any = report.get(top)
    if part and value is not None:
        value = value.get(part, 0 if top == "verdicts" else None)
    return None if value is None else round(float(value), DIGITS)
