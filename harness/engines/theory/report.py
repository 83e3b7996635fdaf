"""What theory says of a scenario, under the keys of every run's report."""

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from harness.attribution import STAGES
from harness.engines.base import EngineResult, OnProgress, Prepared, Target
from harness.engines.theory.batch import batch_answers
from harness.engines.theory.case import Answer, Case
from harness.engines.theory.stream import arrival_answers, user_answers
from harness.errors import InputError
from harness.pipeline.journal import Replayed
from harness.scenario.slo import ADDED, parse_slo

_KINDS = {"batch": batch_answers, "arrivals": arrival_answers, "users": user_answers}
_PERCENTILES = ("mean", "p50", "p90", "p95", "p99", "max")
_COUNTS = ("requests", "ok", "timed_out", "failed", "rejected", "attempts", "duration_s")
_RATES = ("throughput_per_s", "success_rate", "timeout_rate")
_MONEY = ("cost_usd", "baseline_cost_usd", "cost_reduction")


def run_theory(
    prepared: Prepared,
    *,
    seed: int,  # noqa: ARG001 - theory knows the laws, and no weather
    target: Target | None = None,
    on_progress: OnProgress | None = None,  # noqa: ARG001 - over at once
    replayed: Replayed | None = None,  # noqa: ARG001 - keeps no journal
) -> EngineResult:
    """An engine's result without any records; see `theory_report` for what it says.

    Raises:
        InputError: a client of the user's own is to be run.
    """
    if target is not None:
        raise InputError("--target: theory runs no client; take --engine virtual or live")
    began = time.perf_counter()
    told = answers(prepared)
    return EngineResult(
        records=[],
        labels={},
        context_bytes={"peak": 0, "last": 0},
        stopped=None,
        wall_s=time.perf_counter() - began,
        certificate={"theory": msgspec.to_builtins(told)},
    )


def answers(prepared: Prepared) -> list[Answer]:
    """What each formula says of a scenario, those first that say most."""
    return list(_KINDS[prepared.scenario.workload.kind](Case(prepared)))


def theory_report(
    prepared: Prepared, variant: str, expect: str, seed: int, result: EngineResult
) -> dict[str, Any]:
    """A run's report: what a formula that applies gives, and None for all else.

    `theory` has every formula asked, whether it applies and why; of several that give the same
    figure the first counts, and those for screening do not.
    """
    told = [msgspec.convert(one, Answer) for one in result.certificate["theory"]]
    figures: dict[str, float] = {}
    for one in told:
        if one.applies and one.kind != "screening":
            figures = one.figures | figures
    report: dict[str, Any] = {
        "scenario": prepared.scenario.name,
        "variant": variant,
        "engine": "theory",
        "seed": seed,
        "valid": True,
        "invalid_reasons": [],
        "stopped": None,
        **{key: figures.get(key) for key in (*_COUNTS, *_RATES, *_MONEY)},
        **{
            name: {part: figures.get(f"{name}.{part}") for part in _PERCENTILES}
            for name in ("latency_s", "latency_ok_s", "wait_s", "service_s")
        },
        "time_s": dict.fromkeys((*STAGES, "barrier")),
        "cache": {
            **dict.fromkeys(("lookups", "hits", "hit_rate")),
            "repeats_in_input": prepared.corpus.guards.repeats_in_input,
        },
        "routing": prepared.projection.distribution,
        "verdicts": {},
        "wall_s": result.wall_s,
        "accuracy": {"value": None},
        "context_bytes": {"peak": None, "last": None},
        "added_s": dict.fromkeys(ADDED),
        "corpus": {"name": prepared.corpus.name, "reviews": len(prepared.corpus.reviews)},
        "projection": msgspec.to_builtins(prepared.projection),
        "theory": result.certificate["theory"],
        "bottlenecks": [],
        "client_findings": [],
        "notes": [],
        "expect": expect,
        "records_sha256": None,
    }
    return {**_priced(report, prepared), "slo": _slo(prepared.scenario.slo, report)}


def _priced(report: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
    """With the baseline and what is saved, where the cost is known."""
    if report["cost_usd"] is not None:
        known = prepared.projection
        scale = report["cost_usd"] / known.cost_usd if known.cost_usd else 0.0
        report["baseline_cost_usd"] = known.baseline_usd * scale
        report["cost_reduction"] = known.cost_reduction
    return report


def _slo(bounds: Mapping[str, str], report: Mapping[str, Any]) -> dict[str, Any]:
    """Each promise with what theory says: None where it says nothing."""
    checks = []
    for bound in parse_slo(bounds):
        value: Any = report
        for part in bound.metric.split("."):
            value = value.get(part)
        passed = None if value is None else bound.holds(value)
        checks.append(
            {
                "metric": bound.metric,
                "bound": f"{bound.op} {bound.limit:g}",
                "value": value,
                "passed": passed,
            }
        )
    verdicts = {check["passed"] for check in checks}
    passed = False if False in verdicts else None if None in verdicts else True
    return {"passed": passed, "checks": checks}
