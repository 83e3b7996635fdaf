"""A run as the JSON contract has it: figures, promises, money and notes, all of them derived."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from harness.bottlenecks import Bottleneck
from harness.corpus import Corpus
from harness.engines.base import EngineResult, Prepared
from harness.invariants import violations
from harness.metrics import accuracy, summary
from harness.pipeline.cache import near_precision
from harness.records import HITS, records_sha256
from harness.recovery import recovery
from harness.scenario.slo import ADDED, parse_slo
from mock_llm.cassette import torn
from mock_llm.config import Upstream
from mock_llm.network import aimless


def report_of(
    prepared: Prepared,
    variant: str,
    expect: str,
    engine: str,
    seed: int,
    result: EngineResult,
    found: Sequence[Bottleneck],
    *,
    foreign: bool,
) -> dict[str, Any]:
    """The run as the JSON contract has it; `foreign` when a target took the pipeline's place."""
    scenario = prepared.scenario
    invalid = doubts_of(prepared, result, foreign=foreign)
    figures = figures_of(prepared, result)
    report = {
        "scenario": scenario.name,
        "variant": variant,
        "engine": engine,
        "seed": seed,
        "valid": not invalid,
        "invalid_reasons": invalid,
        "stopped": result.stopped,
        **figures,
        **money_figures(result),
        "wall_s": result.wall_s,
        "near_hits": near_precision(_near(result), result.truths or prepared.truths),
        "corpus": _corpus(prepared.corpus),
        "projection": None if foreign else msgspec.to_builtins(prepared.projection),
        "certificate": result.certificate,
        "bottlenecks": msgspec.to_builtins(found),
        "client_findings": [one.told() for one in result.client_findings or ()],
        "notes": [*prepared.corpus.notes, *_doubts(scenario.upstream), *result.notes],
        "expect": expect,
        "records_sha256": records_sha256(result.records),
    }
    report["notes"] += _endings(result, figures, len(prepared.items))
    if engine == "virtual":
        report["notes"].append("no CPU cost is modelled: the virtual clock counts waiting only")
    return {**report, "slo": slo_of(scenario.slo, report)}


def doubts_of(prepared: Prepared, result: EngineResult, *, foreign: bool = False) -> list[str]:
    """Why a run says nothing, by what its engine found and by the laws that every run obeys.

    Args:
        prepared: what was run.
        result: what came of it.
        foreign: a target took the pipeline's place.
    """
    broken = violations(
        result.records,
        result.submitted or [item.key for item in prepared.items],
        complete=result.stopped in {None, "job_deadline", "budget"} and not result.invalid,
        one_success=not foreign,
    )
    return [*result.invalid, *(f"invariant: {text}" for text in broken[:5])]


def figures_of(prepared: Prepared, result: EngineResult) -> dict[str, Any]:
    """Every figure of a run that can be promised, by the names of the JSON contract."""
    scenario, failed = prepared.scenario, result.stopped == "job_deadline"
    return {
        **summary(
            result.records,
            baseline_usd_per_m=scenario.pipeline.baseline_usd_per_m,
            repeats_in_input=prepared.corpus.guards.repeats_in_input,
            job_failed=failed,
            batch_size=scenario.pipeline.batch_size or 10,
            ends=result.ends,
        ),
        **recovery(result.records, result.spike or scenario.workload.spike_s),
        # A job past its deadline hands over no labels either.
        "accuracy": accuracy({} if failed else _judged(result), result.truths or prepared.truths),
        "context_bytes": result.context_bytes,
        "added_s": dict.fromkeys(ADDED),  # a load test measures it, and nobody else
    }


def _corpus(corpus: Corpus) -> dict[str, Any]:
    warnings = list(corpus.guards.warnings)
    return {"name": corpus.name, "reviews": len(corpus.reviews), "warnings": warnings}


def _endings(result: EngineResult, figures: Mapping[str, Any], items: int) -> Iterator[str]:
    """How a run ended before its work did."""
    wanted = items if result.submitted is None else len(result.submitted)
    if result.stopped in {"interrupted", "never_answered"}:
        yield f"broken off: {figures['requests']:,} of {wanted:,} requests had begun"
    if result.stopped == "budget":
        unsent = figures["verdicts"].get("budget", 0)
        yield (
            f"the budget stopped it: {unsent:,} requests were not sent; with more money --resume "
            "goes on with them"
        )


def money_figures(result: EngineResult) -> dict[str, Any]:
    """What was wasted, estimated and held, and what may have been paid twice; None of a target."""
    money = result.money
    wasted = None if money is None else {**money.kind_usd}
    if wasted is not None:
        del wasted["useful"]
    return {
        "wasted_usd": wasted,
        "estimated_usd": None if money is None else money.estimated_usd,
        "held_usd": None if money is None else money.held_usd,
        "overruns": None if money is None else money.overruns,
        "reconciliation": result.reconciliation,
        "possibly_paid_twice_usd": sum(row.cost_usd for row in result.in_doubt),
        "in_doubt": [f"{row.key} attempt {row.attempt}" for row in result.in_doubt],
    }


def _doubts(upstream: Upstream) -> list[str]:
    return [*torn(upstream), *aimless(upstream)]


def _judged(result: EngineResult) -> dict[str, str | None]:
    """Labels that the provider gave: one from the cache is the same judgement once more."""
    hits = {row.key for row in result.records if row.cache in HITS}
    return {key: label for key, label in result.labels.items() if key not in hits}


def _near(result: EngineResult) -> dict[str, str | None]:
    """Labels that were handed out for texts which are only nearly those that were answered."""
    near = {row.key for row in result.records if row.cache == "near"}
    return {key: label for key, label in result.labels.items() if key in near}


def slo_of(bounds: Mapping[str, str], report: Mapping[str, Any]) -> dict[str, Any]:
    """Each promise with what was measured; all must hold."""
    checks = []
    for bound in parse_slo(bounds):
        value: Any = report
        for part in bound.metric.split("."):
            value = value[part]
        checks.append(
            {
                "metric": bound.metric,
                "bound": f"{bound.op} {bound.limit:g}",
                "value": value,
                "passed": value is not None and bound.holds(value),
            }
        )
    return {"passed": all(check["passed"] for check in checks), "checks": checks}
