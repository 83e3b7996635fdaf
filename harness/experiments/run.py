"""One scenario, some variants, some seeds, one engine: runs, and the JSON that tells of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from harness.bottlenecks import Bottleneck, bottlenecks
from harness.engines.base import Engine, EngineResult, OnProgress, Prepared, Target, prepare
from harness.engines.live import run_live
from harness.engines.real import Endpoint, run_real
from harness.engines.virtual import run_on_virtual_clock
from harness.errors import InputError
from harness.experiments.journalled import header_of, open_journal, place_of
from harness.files import write_whole
from harness.invariants import violations
from harness.metrics import Tally, accuracy, summary
from harness.pipeline.cache import near_precision
from harness.pipeline.journal import Replayed
from harness.records import HITS, records_sha256, requests, write_jsonl
from harness.scenario.load import ScenarioFile
from harness.scenario.slo import parse_slo
from mock_llm.cassette import torn
from mock_llm.config import Upstream
from mock_llm.network import aimless

ENGINES: dict[str, Engine] = {"virtual": run_on_virtual_clock, "live": run_live}
REAL = "real"
PLANNED = ("theory", "sim", "virtual", "live", "real", "all")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One finished run.

    Attributes:
        prepared: what was run.
        variant: its name.
        engine: which engine ran it.
        seed: of its weather.
        result: what the engine brought back.
        report: the JSON contract's object.
        bottlenecks: what holds it back.
    """

    prepared: Prepared
    variant: str
    engine: str
    seed: int
    result: EngineResult
    report: dict[str, Any]
    bottlenecks: list[Bottleneck]

    @property
    def as_expected(self) -> bool:
        """Whether it passed or failed its promises as the scenario says that it should."""
        passed: bool = self.report["slo"]["passed"]
        expected: bool = self.report["expect"] == "pass"
        return passed is expected


def engine_named(name: str) -> Engine:
    """The engine of that name.

    Raises:
        InputError: there is none, or not yet.
    """
    if name in ENGINES:
        return ENGINES[name]
    if name == REAL:
        raise InputError("--engine real: needs an endpoint, which only harness run can name")
    built = ", ".join([*ENGINES, REAL])
    if name in PLANNED:
        raise InputError(f"--engine {name}: not built yet; {built} are")
    raise InputError(f"--engine {name}: there is no such engine; {built} are built")


def prepare_variant(file: ScenarioFile, variant: str, base: Path | None = None) -> Prepared:
    """Everything about a variant that precedes its first call.

    Raises:
        InputError: a bad corpus, a model without a price.
    """
    return prepare(file.resolve(variant), base=base)


def run_one(
    prepared: Prepared,
    *,
    variant: str,
    expect: str,
    engine: str,
    seed: int,
    target: Target | None = None,
    on_progress: OnProgress | None = None,
    replayed: Replayed | None = None,
    endpoint: Endpoint | None = None,
) -> Run:
    """Run one variant once and derive everything that is told of it.

    Args:
        prepared: what to run.
        variant: its name.
        expect: whether it is to keep its promises.
        engine: which one runs it.
        seed: of the weather.
        target: a client in place of ours.
        on_progress: called at the end of each batch.
        replayed: an open journal and what it says; None: none is kept.
        endpoint: of the `real` engine.

    Raises:
        InputError: the journal cannot be written on.
    """
    fly = engine_named(engine) if endpoint is None else partial(run_real, endpoint=endpoint)
    result = fly(prepared, seed=seed, target=target, on_progress=on_progress, replayed=replayed)
    failed = result.stopped == "job_deadline"
    settings = prepared.scenario.pipeline
    if prepared.scenario.workload.kind != "batch":  # a service's slots are its workers
        settings = msgspec.structs.replace(settings, concurrency=settings.workers)
    if target is not None:  # its time limits are its own
        settings = msgspec.structs.replace(settings, attempt_timeout_s=None, slot="before_timeout")
    found = bottlenecks(result.records, settings, job_failed=failed)
    if replayed is not None and replayed.rows and not settings.barrier:
        # Each process began with all that was left: these are waves, and nothing waited for them.
        found = [bottleneck for bottleneck in found if bottleneck.cause != "barrier"]
    if target is not None:  # how many calls it makes at once for a review is its own affair
        found = [bottleneck for bottleneck in found if bottleneck.cause != "semaphore_not_acquired"]
    return Run(
        prepared=prepared,
        variant=variant,
        engine=engine,
        seed=seed,
        result=result,
        report=_report(
            prepared, variant, expect, engine, seed, result, found, foreign=target is not None
        ),
        bottlenecks=found,
    )


def run_and_save(
    prepared: Prepared,
    folder: Path,
    *,
    variant: str,
    expect: str,
    engine: str,
    seed: int,
    target: Target | None = None,
    on_progress: OnProgress | None = None,
    resume: bool = False,
    endpoint: Endpoint | None = None,
) -> Run:
    """Run one variant once, with a journal of it in its folder, and write down what came of it.

    Args:
        prepared: what to run.
        folder: of the scenario's runs; this one's is made there.
        variant: see `run_one`, as of the rest.
        expect: likewise.
        engine: likewise.
        seed: likewise.
        target: likewise; it keeps no journal.
        on_progress: likewise.
        resume: go on with a run that has a journal there; else it begins anew.
        endpoint: of the `real` engine, whose journal waits for the disk.

    Raises:
        InputError: the folder cannot be written, or the journal is of another run.
    """
    replayed = None
    if target is None and prepared.scenario.workload.kind == "batch":
        where = endpoint.base_url if endpoint else ""
        header = header_of(prepared, variant=variant, engine=engine, seed=seed, endpoint=where)
        place = place_of(folder, variant, engine, seed)
        replayed = open_journal(place, header, resume=resume, real=endpoint is not None)
    try:
        one = run_one(
            prepared,
            variant=variant,
            expect=expect,
            engine=engine,
            seed=seed,
            target=target,
            on_progress=on_progress,
            replayed=replayed,
            endpoint=endpoint,
        )
        save(one, folder)
    finally:
        if replayed is not None and replayed.journal is not None:
            replayed.journal.close()
    return one


def _report(
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
        "corpus": {
            "name": prepared.corpus.name,
            "reviews": len(prepared.corpus.reviews),
            "warnings": list(prepared.corpus.guards.warnings),
        },
        "projection": None if foreign else msgspec.to_builtins(prepared.projection),
        "certificate": result.certificate,
        "bottlenecks": msgspec.to_builtins(found),
        "client_findings": [one.told() for one in result.client_findings or ()],
        "notes": [*prepared.corpus.notes, *_doubts(scenario.upstream), *result.notes],
        "expect": expect,
        "records_sha256": records_sha256(result.records),
    }
    wanted = len(prepared.items if result.submitted is None else result.submitted)
    report["notes"] += _endings(result, figures, wanted)
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
    pipe, failed = prepared.scenario.pipeline, result.stopped == "job_deadline"
    return {
        **summary(
            result.records,
            baseline_usd_per_m=pipe.baseline_usd_per_m,
            repeats_in_input=prepared.corpus.guards.repeats_in_input,
            job_failed=failed,
            batch_size=pipe.batch_size or 10,
        ),
        # A job past its deadline hands over no labels either.
        "accuracy": accuracy({} if failed else _judged(result), result.truths or prepared.truths),
        "context_bytes": result.context_bytes,
    }


def _endings(result: EngineResult, figures: Mapping[str, Any], wanted: int) -> Iterator[str]:
    """How a run ended before its work did."""
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


def save(run: Run, folder: Path) -> Path:
    """Write a run's records, labels and figures; returns the folder that names it.

    Raises:
        InputError: the folder cannot be written.
    """
    place = place_of(folder, run.variant, run.engine, run.seed)
    try:
        place.mkdir(parents=True, exist_ok=True)
        write_jsonl(run.result.records, place / "records.jsonl")
        write_whole(place / "requests.jsonl", _outcomes(run))
        text = json.dumps(run.report, indent=1) + "\n"
        write_whole(place / "run.json", [text.encode()])
    except OSError as error:
        raise InputError(f"{place}: cannot be written: {error.strerror}") from error
    return place


def _outcomes(run: Run) -> Iterator[bytes]:
    """What was handed over, one line per request."""
    ids = {item.key: item.review.id for item in run.prepared.items}
    failed = run.result.stopped == "job_deadline"
    causes = Tally(run.result.records, job_failed=failed).causes
    for rows in requests(run.result.records):
        key, last = rows[0].key, rows[-1]
        line = {
            "key": key,
            "review": ids.get(key, ""),
            "outcome": "timed_out" if failed else last.outcome,
            "verdict": causes.get(key),
            "model": last.model,
            "label": None if failed else run.result.labels.get(key),
        }
        yield msgspec.json.encode(line) + b"\n"
