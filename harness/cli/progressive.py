"""`harness progressive`: size after size, and what it says of the sizes nobody has tried."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from harness.cli.progress import Watcher
from harness.cli.real import (
    BaseUrl,
    CaFile,
    KeyEnv,
    MaxCalls,
    Options,
    Yes,
    agreed,
    check_plan,
)
from harness.cli.run import (
    INTERRUPTED,
    STDOUT,
    Engine,
    Json,
    Resume,
    Scenario,
    Seed,
    Sets,
    write_json,
)
from harness.engines.base import Prepared
from harness.errors import InputError
from harness.experiments.journalled import check_journals, place_of
from harness.experiments.progressive import (
    Manner,
    Step,
    Stops,
    check_sizes,
    forecasts,
    progress,
)
from harness.experiments.run import REAL, engine_named, prepare_variant
from harness.places import check_file, check_folder
from harness.report.ready import forecast_table, ready_table
from harness.report.text import percent, usd
from harness.scenario.load import BASE, load_file

LARGER = (5_000, 10_000, 50_000)
NO_MONEY = 4

Sizes = Annotated[str, typer.Option(help="Reviews of each step, growing.", metavar="N,N,...")]


def progressive(
    scenario: Scenario,
    sizes: Sizes = "100,500,1000",
    variant: Annotated[str, typer.Option(help="A variant's name, or base.")] = BASE,
    engine: Engine = "virtual",
    seed: Seed = None,
    sets: Sets = None,
    deadline: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds that no job may take.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the runs; default results/runs/<scenario>.")
    ] = None,
    json_to: Json = None,
    resume: Resume = False,
    base_url: BaseUrl = None,
    key_env: KeyEnv = None,
    ca_file: CaFile = None,
    yes: Yes = False,
    max_usd: Annotated[
        float | None, typer.Option(min=0, help="Dollars for all sizes together; they end there.")
    ] = None,
    max_calls: MaxCalls = None,
) -> int:
    """Run a job size after size, as long as it keeps its promises, and foretell larger ones."""
    chosen = check_sizes(sizes)
    real = engine == REAL
    options = Options(base_url, key_env, ca_file, yes, max_usd if real else None, max_calls)
    endpoint = options.endpoint(engine)
    if not real:
        engine_named(engine)
    caps = [*(sets or []), *options.overrides]
    files = [load_file(scenario, [*caps, f"workload.reviews={n}"], variant) for n in chosen]
    plan = [prepare_variant(file, variant, scenario.parent) for file in files]
    _check_plan(plan, chosen, variant)
    written = files[0].written
    manner = Manner(
        variant=variant,
        engine=engine,
        seed=written.seed if seed is None else seed,
        folder=out or Path("results/runs") / written.name,
        resume=resume,
        endpoint=endpoint,
    )
    _check_places(manner, plan, json_to)
    stops = Stops(usd=max_usd, deadline_s=deadline)
    claims = written.variants[variant].claims if variant != BASE else {}
    with redirect_stdout(sys.stderr) if json_to == STDOUT else nullcontext():
        console = Console(highlight=False)
        steps = _fly(console, plan, manner, stops, yes=yes)
        document = _document(steps, claims)
        _tell(console, document, f"{written.name} · {variant} · {engine} · seed {manner.seed}")
        if json_to is not None and json_to != STDOUT:
            write_json(json_to, document)
    if json_to == STDOUT:
        write_json(json_to, document)
    return _exit_code(steps)


def _check_places(manner: Manner, plan: Sequence[Prepared], json_to: str | None) -> None:
    """Whether results will have a place, and nothing that was paid for is thrown away."""
    check_folder("--out", manner.folder)
    if json_to is not None and json_to != STDOUT:
        check_file("--json", json_to)
    places = [
        place_of(manner.folder_of(ready), manner.variant, manner.engine, manner.seed)
        for ready in plan
    ]
    check_journals(places, plan, resume=manner.resume, real=manner.endpoint is not None)


def _fly(
    console: Console, plan: Sequence[Prepared], manner: Manner, stops: Stops, *, yes: bool
) -> list[Step]:
    _foretell(console, plan)
    if manner.endpoint is not None:
        for ready in plan:
            check_plan([ready], 1)
        plan = [agreed(console, ready, manner.endpoint, yes=yes) for ready in plan]
    steps = []
    with Watcher(len(plan)) as watcher:
        for step in progress(
            plan, manner, stops, lambda: watcher.begin(manner.variant, manner.seed)
        ):
            steps.append(step)
            console.print(escape(_line(step)), soft_wrap=True)
    return steps


def _check_plan(plan: Sequence[Prepared], sizes: Sequence[int], variant: str) -> None:
    """Refuse what has no sizes, and sizes that a corpus cannot fill."""
    for ready, size in zip(plan, sizes, strict=True):
        kind = ready.scenario.workload.kind
        if kind != "batch":
            raise InputError(f'progressive: takes a batch, and workload.kind is "{kind}"')
        have = len(ready.items)
        if have < size:
            name = ready.corpus.name
            raise InputError(f"--sizes {size}: {name} has {have:,} reviews for {variant}")


def _foretell(console: Console, plan: Sequence[Prepared]) -> None:
    """Routing and cost of every size, before any call."""
    console.print("[bold]Before any call[/]")
    for ready in plan:
        told = ready.projection
        shares = ", ".join(
            f"{percent(share)} {model.rpartition('/')[2]}"
            for model, share in told.distribution.items()
        )
        cost = f"{usd(told.cost_usd)}, {told.cost_reduction * 100:.1f} % below baseline"
        console.print(f"  {told.requests:>6,} reviews: {escape(shares)}; {cost}", soft_wrap=True)


def _line(step: Step) -> str:
    state = "READY" if step.ready else f"not run: {step.why}" if step.run is None else step.why
    return f"{step.reviews:,} reviews: {state}"


def _document(steps: Sequence[Step], claims: dict[str, dict[str, float]]) -> dict[str, Any]:
    done = [step.run for step in steps if step.run is not None and step.run.report["valid"]]
    told, skipped = forecasts(done[-1], LARGER) if done else ([], 0)
    return {
        "runs": [step.run.report for step in steps if step.run is not None],
        "sizes": [_row(step, claims.get(str(step.reviews), {})) for step in steps],
        "forecasts": [
            {
                "reviews": one.reviews,
                "duration_s": [one.duration_s.low, one.duration_s.high],
                "throughput_per_s": list(one.throughput_per_s),
                "success_rate": [one.success_low, one.success_high],
                "cost_usd": [one.cost_usd.low, one.cost_usd.high],
            }
            for one in told
        ],
        "forecasts_from": done[-1].report["requests"] if told else 0,
        "warm_up_requests": skipped,
    }


def _row(step: Step, claimed: dict[str, float]) -> dict[str, Any]:
    names = ("throughput_per_s", "success_rate", "cost_reduction", "duration_s", "cost_usd")
    status = "READY" if step.ready else "not run" if step.run is None else "NOT READY"
    return {
        "reviews": step.reviews,
        "status": status,
        "why": step.why,
        "claimed": claimed,
        "projected": msgspec.to_builtins(step.prepared.projection),
        "measured": None if step.run is None else {n: step.run.report[n] for n in names},
    }


def _tell(console: Console, document: dict[str, Any], title: str) -> None:
    console.print(ready_table(document["sizes"], title))
    if document["forecasts"]:
        console.print(forecast_table(document["forecasts"], document["forecasts_from"]))
    else:
        console.print("[dim]no forecast: too few requests to tell their scatter[/]")


def _exit_code(steps: Sequence[Step]) -> int:
    runs = [step.run for step in steps if step.run is not None]
    if any(run.result.stopped == "interrupted" for run in runs):
        return INTERRUPTED
    if not all(run.report["valid"] for run in runs):
        return 3
    if any(run.result.stopped == "budget" for run in runs) or steps[0].why.startswith("budget"):
        return NO_MONEY
    if any(step.run is None and step.why.startswith("budget") for step in steps):
        return NO_MONEY
    return 0 if all(step.ready for step in steps) else 1
