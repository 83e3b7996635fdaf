"""One scenario, some variants, some seeds, one engine: runs, and the JSON that tells of them."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from harness.bottlenecks import Bottleneck, bottlenecks
from harness.engines.base import Engine, EngineResult, OnProgress, Prepared, Target, prepare
from harness.engines.live import run_live
from harness.engines.real import Endpoint, run_real
from harness.engines.theory import run_theory, theory_report
from harness.engines.twin import run_in_twin
from harness.engines.virtual import run_on_virtual_clock
from harness.errors import InputError
from harness.experiments.journalled import header_of, open_journal, place_of
from harness.experiments.reports import report_of
from harness.files import write_whole
from harness.metrics import Tally
from harness.pipeline.journal import Replayed
from harness.records import requests, write_jsonl
from harness.scenario.load import ScenarioFile

THEORY, SIM, REAL = "theory", "sim", "real"
ENGINES: dict[str, Engine] = {
    THEORY: run_theory,
    SIM: run_in_twin,
    "virtual": run_on_virtual_clock,
    "live": run_live,
}


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
        """Whether it passed or failed its promises as the scenario says, where that is known."""
        passed: bool | None = self.report["slo"]["passed"]
        expected: bool = self.report["expect"] == "pass"
        return passed is None or passed is expected


def engine_named(name: str) -> Engine:
    """The engine of that name.

    Raises:
        InputError: there is none.
    """
    if name in ENGINES:
        return ENGINES[name]
    if name == REAL:
        raise InputError("--engine real: needs an endpoint, which only harness run can name")
    built = ", ".join([*ENGINES, REAL])
    raise InputError(f"--engine {name}: there is no such engine; {built} are")


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
    return run_of(
        prepared,
        result,
        variant=variant,
        expect=expect,
        engine=engine,
        seed=seed,
        foreign=target is not None,
        resumed=replayed is not None and bool(replayed.rows),
    )


def run_of(
    prepared: Prepared,
    result: EngineResult,
    *,
    variant: str,
    expect: str,
    engine: str,
    seed: int,
    foreign: bool = False,
    resumed: bool = False,
) -> Run:
    """Everything that is told of what an engine, or a load test, brought back.

    Args:
        prepared: what was run.
        result: what came of it.
        variant: its name.
        expect: whether it is to keep its promises.
        engine: who ran it.
        seed: of the weather.
        foreign: a target took the pipeline's place.
        resumed: it went on with a run that was broken off.
    """
    if engine == THEORY:
        report = theory_report(prepared, variant, expect, seed, result)
        return Run(
            prepared=prepared,
            variant=variant,
            engine=engine,
            seed=seed,
            result=result,
            report=report,
            bottlenecks=[],
        )
    failed = result.stopped == "job_deadline"
    settings = prepared.scenario.pipeline
    if prepared.scenario.workload.kind != "batch":  # a service's slots are its workers
        settings = msgspec.structs.replace(settings, concurrency=settings.workers)
    if foreign:  # its time limits are its own
        settings = msgspec.structs.replace(settings, attempt_timeout_s=None, slot="before_timeout")
    found = bottlenecks(result.records, settings, job_failed=failed)
    if resumed and not settings.barrier:
        # Each process began with all that was left: these are waves, and nothing waited for them.
        found = [bottleneck for bottleneck in found if bottleneck.cause != "barrier"]
    if foreign:  # how many calls it makes at once for a review is its own affair
        found = [bottleneck for bottleneck in found if bottleneck.cause != "semaphore_not_acquired"]
    return Run(
        prepared=prepared,
        variant=variant,
        engine=engine,
        seed=seed,
        result=result,
        report=report_of(prepared, variant, expect, engine, seed, result, found, foreign=foreign),
        bottlenecks=found,
    )


def run_and_save(
    prepared: Prepared,
    folder: Path,
    *,
    variant: str,
    expect: str,
    claim: str = "",
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
        claim: what the scenario says of it, for whoever reads its figures later.
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
    silent = engine in {THEORY, SIM}
    if resume and silent:
        raise InputError(f"--resume: {engine} keeps no journal; run it anew")
    if target is None and not silent and prepared.scenario.workload.kind == "batch":
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
        one.report["claim"] = claim
        save(one, folder)
    finally:
        if replayed is not None and replayed.journal is not None:
            replayed.journal.close()
    return one


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
