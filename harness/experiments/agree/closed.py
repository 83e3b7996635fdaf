"""Closed forms against replications: is the number that theory gives inside their interval?

Theory shares the scenario and its laws with the code, and no object that decides, so it is the one
witness that sees a mistake in those which `sim` and `virtual` share. A report holds many figures
against their intervals, so each has to be the wider (Bonferroni): with the family at 95 %, one
report in twenty is a false alarm.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any

from harness.experiments.agree.checks import Agreement, Check, figure
from harness.experiments.run import Run
from harness.statistics import Interval, interval

REPLICATIONS = 8
"""Runs that a closed form is held against, at least."""

FAMILY = 0.95
"""That all figures of a report are inside their intervals, when all are right."""

ROUNDING = 1e-9
"""Relative; sums of the same numbers in another order."""

_JUDGED = {
    *("throughput_per_s", "success_rate", "timeout_rate", "duration_s", "wait_s.mean"),
    *("latency_s.mean", "latency_s.p50", "latency_s.p95", "latency_s.p99"),
}


def against_theory(theory: Run, runs: Sequence[Run]) -> Agreement:
    """What theory says of a variant, held against several runs of it.

    Args:
        theory: its run; its report has each formula that was asked.
        runs: replications by one engine.
    """
    sound = [run.report for run in runs if run.report["valid"]]
    answers = theory.report["theory"]
    promises = sum(len(dict(_known(one))) for one in answers if one["kind"] in {"exact", "bound"})
    confidence = 1 - (1 - FAMILY) / max(1, promises)
    checks = [check for one in answers for check in _checks(one, sound, confidence)]
    return Agreement(
        scenario=theory.report["scenario"],
        variant=theory.variant,
        seeds=[run.seed for run in runs],
        left="theory",
        right=runs[0].engine,
        agreed=all(one.agreed is not False for one in checks),
        checks=checks,
    )


def says_something(theory: Run) -> bool:
    """Whether any formula applies that gives a figure of a run."""
    return any(True for one in theory.report["theory"] for _ in _known(one))


def _known(answer: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Figures that runs have too, by their key in a report; of a bound without `_max` or `_min`."""
    for name, value in answer["figures"].items() if answer["applies"] else ():
        key = name.removesuffix("_max").removesuffix("_min")
        if (key != name) == (answer["kind"] == "bound") and key in _JUDGED:
            yield name, value


def _checks(
    answer: Mapping[str, Any], reports: Sequence[Mapping[str, Any]], confidence: float
) -> Iterator[Check]:
    if not answer["applies"]:
        yield _silent(answer["formula"], None, f"does not apply: {answer['why']}")
    for name, value in _known(answer):
        metric = f"{answer['formula']}: {name}"
        key = name.removesuffix("_max").removesuffix("_min")
        values = [found for one in reports if (found := figure(one, key)) is not None]
        if len(values) < REPLICATIONS:
            why = f"{len(values)} of {REPLICATIONS} runs: name them with --seeds A-B"
            yield _silent(metric, value, why)
        else:
            yield _inside(answer, metric, value, interval(values, confidence))


def _inside(answer: Mapping[str, Any], metric: str, value: float, found: Interval) -> Check:
    room = found.half_width + ROUNDING * abs(value)
    low, high = found.mean - room, found.mean + room
    agreed: bool | None
    if answer["kind"] == "bound":
        low, high = (-inf, high) if metric.endswith("_min") else (low, inf)
    agreed = low <= value <= high
    why = answer["why"]
    if answer["kind"] in {"approximate", "screening"}:
        off = value / found.mean - 1 if found.mean else 0.0
        agreed, why = None, f"{answer['kind']}: {off:+.1%} off; {why}"
    told = f"± {found.half_width:.4g}, {found.n} runs at {found.confidence:.2%}"
    return Check(
        metric=metric, left=value, right=found.mean, tolerance=told, agreed=agreed, why=why
    )


def _silent(metric: str, value: float | None, why: str) -> Check:
    return Check(metric=metric, left=value, right=None, tolerance="", agreed=None, why=why)
