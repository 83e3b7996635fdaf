"""What two engines say of one variant, held against each other figure by figure.

The tolerances are those of a pilot in which the same arrivals and service times went through SimPy,
through aiohttp on a virtual clock, and through aiohttp live: no difference between the first two;
live was within 1 % of the throughput and 3 % + 4 ms of the 95th percentile below saturation, and
within five times as much in overload.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from harness.experiments.agree.rows import EXACT_S, Difference, first_difference
from harness.experiments.run import Run

BUSY = 0.85
"""Share of the workers' time from which on a service counts as overloaded."""

LOST = 0.01
"""Share of requests timed out or refused, likewise."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of two engines.

    Attributes:
        metric: which.
        left: of the first engine; None where it says nothing.
        right: of the second.
        tolerance: in words.
        agreed: None where there is no verdict.
        why: there is none, or what else there is to say.
    """

    metric: str
    left: Any
    right: Any
    tolerance: str
    agreed: bool | None
    why: str = ""


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """Two engines on one variant.

    Attributes:
        scenario: its name.
        variant: its name.
        seeds: of the runs.
        left: the first engine.
        right: the second.
        agreed: whether no check failed.
        checks: figure by figure.
        first_difference: where everything had to be equal and is not.
    """

    scenario: str
    variant: str
    seeds: list[int]
    left: str
    right: str
    agreed: bool
    checks: list[Check]
    first_difference: Difference | None = None


class Band(NamedTuple):
    """By how much two engines may differ in a figure: a share of the second's, and a bit."""

    metric: str
    relative: float
    absolute: float
    tolerance: str


CALM = (
    Band("throughput_per_s", 0.01, 0.0, "±1 %"),
    Band("latency_s.p95", 0.03, 0.004, "±3 % + 4 ms"),
    Band("timeout_rate", 0.0, 0.005, "±0.5 points"),
)
OVERLOAD = (
    Band("throughput_per_s", 0.05, 0.0, "±5 %"),
    Band("latency_s.p95", 0.05, 0.0, "±5 %"),
    Band("timeout_rate", 0.0, 0.02, "±2 points"),
)


def equal(left: Run, right: Run) -> Agreement:
    """Whether two runs under the same weather did the same, to the last row."""
    found = first_difference(left.result.records, right.result.records)
    figures = ("requests", "attempts", "ok", "timed_out", "failed", "rejected", "stopped")
    pairs = [(name, left.report[name], right.report[name]) for name in figures]
    checks = [
        Check(metric=name, left=a, right=b, tolerance="equal", agreed=a == b)
        for name, a, b in pairs
    ]
    ours, theirs = (dict(one.result.labels) for one in (left, right))
    checks.append(
        Check(
            metric="labels",
            left=len(ours),
            right=len(theirs),
            tolerance="equal",
            agreed=ours == theirs,
        )
    )
    digests = [one.report["records_sha256"] for one in (left, right)]
    rounded = found is None and digests[0] != digests[1]
    checks.append(
        Check(
            metric="every row",
            left=digests[0],
            right=digests[1],
            tolerance=f"equal, times to {EXACT_S:g} s",
            agreed=found is None,
            why="times differ by less" if rounded else "",
        )
    )
    return agreement(left, right, checks, found)


def near(left: Run, right: Run) -> Agreement:
    """Whether two runs say nearly the same, the second of them on the wall clock."""
    bands = OVERLOAD if overloaded(left) else CALM
    checks = [_banded(band, left.report, right.report) for band in bands]
    if not right.report["valid"]:
        why = "; ".join(right.report["invalid_reasons"])
        checks = [msgspec.structs.replace(one, agreed=None, why=why) for one in checks]
    return agreement(left, right, checks)


def overloaded(run: Run) -> bool:
    """Whether more is asked than is served: then small causes make great differences.

    A batch keeps all of its slots busy and is not overloaded by that.
    """
    report = run.report
    lost = report["timed_out"] + report["rejected"]
    if lost > LOST * report["requests"]:
        return True
    scenario = run.prepared.scenario
    if scenario.workload.kind == "batch":
        return False
    ends: dict[str, float] = {}
    starts: dict[str, float] = {}
    for row in run.result.records:
        if row.t_admitted is not None:
            starts[row.key] = row.t_admitted
            ends[row.key] = max(row.t_end, ends.get(row.key, 0.0))
    busy_s = sum(ends[key] - starts[key] for key in starts)
    return bool(busy_s > BUSY * scenario.pipeline.workers * report["duration_s"])


def _banded(band: Band, left: Mapping[str, Any], right: Mapping[str, Any]) -> Check:
    a, b = figure(left, band.metric), figure(right, band.metric)
    agreed = a == b
    if a is not None and b is not None:
        agreed = abs(a - b) <= band.relative * abs(a) + band.absolute
    return Check(metric=band.metric, left=a, right=b, tolerance=band.tolerance, agreed=agreed)


def figure(report: Mapping[str, Any], path: str) -> float | None:
    """A figure of a report by its dotted path; None where there is none."""
    value: Any = report
    for part in path.split("."):
        value = value and value.get(part)
    return None if value is None else float(value)


def agreement(
    left: Run, right: Run, checks: Sequence[Check], found: Difference | None = None
) -> Agreement:
    """What comes of the checks of two runs."""
    return Agreement(
        scenario=left.report["scenario"],
        variant=left.variant,
        seeds=[left.seed],
        left=left.engine,
        right=right.engine,
        agreed=all(one.agreed is not False for one in checks),
        checks=list(checks),
        first_difference=found,
    )
