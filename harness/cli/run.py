"""`harness run`: a scenario's variants on one engine, and what became of them."""

import json
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
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
    MaxUsd,
    Options,
    Yes,
    agreed,
    check_plan,
)
from harness.engines.base import Prepared, Target
from harness.engines.real import Endpoint
from harness.engines.target import load_target
from harness.errors import InputError
from harness.experiments.agree import Agreement, agreements
from harness.experiments.compare import explain_connections
from harness.experiments.journalled import check_journals, place_of
from harness.experiments.lint import lint, lint_lines
from harness.experiments.means import means
from harness.experiments.run import (
    ENGINES,
    REAL,
    THEORY,
    Run,
    engine_named,
    prepare_variant,
    run_and_save,
)
from harness.files import write_whole
from harness.places import check_file, check_folder
from harness.report.agreement import agreement_tables
from harness.report.headline import best_of, headline, lessons
from harness.report.table import run_table
from harness.report.text import percent, usd
from harness.report.theory import theory_table
from harness.scenario.load import ScenarioFile, load_file
from harness.scenario.model import Variant

STDOUT = "-"
ALL = "all"
INTERRUPTED = 130
NO_MONEY = 4
MOST_SEEDS = 10_000

Scenario = Annotated[Path, typer.Argument(help="Scenario file (TOML).", metavar="SCENARIO")]
Engine = Annotated[str, typer.Option(help="theory|sim|virtual|live|real|all")]
Chosen = Annotated[str, typer.Option("--variant", help="A variant's name, base, or all.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the weather; default: the scenario's.")]
Seeds = Annotated[str | None, typer.Option(help="Repeat with every seed of A-B.", metavar="A-B")]
CorpusPath = Annotated[
    str | None, typer.Option(help="CSV or JSONL file, synthetic[:CATEGORY] or templates8.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override dotted.key=value; may be repeated.", metavar="KEY=VALUE"),
]
Out = Annotated[
    Path | None, typer.Option(help="Folder for records; default results/runs/<scenario>.")
]
Json = Annotated[str | None, typer.Option("--json", help="Write JSON there; - is standard output.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with a run that was broken off or killed.")
]
TargetSpec = Annotated[
    str | None,
    typer.Option(
        help="Your own client: an async callable of (review, base_url).",
        metavar="PACKAGE.MODULE:FUNCTION",
    ),
]


def run(
    scenario: Scenario,
    engine: Engine = "virtual",
    variant: Chosen = "all",
    seed: Seed = None,
    seeds: Seeds = None,
    corpus: CorpusPath = None,
    sets: Sets = None,
    out: Out = None,
    json_to: Json = None,
    target: TargetSpec = None,
    resume: Resume = False,
    base_url: BaseUrl = None,
    key_env: KeyEnv = None,
    ca_file: CaFile = None,
    yes: Yes = False,
    max_usd: MaxUsd = None,
    max_calls: MaxCalls = None,
) -> int:
    """Run a scenario and say what holds it back."""
    if target and (resume or engine == REAL):
        option = "--resume" if resume else "--engine real"
        raise InputError(f"{option}: not with --target: of its calls nobody keeps books")
    options = Options(base_url, key_env, ca_file, yes, max_usd, max_calls)
    endpoint = options.endpoint(engine)
    overrides = [*_corpus_overrides(corpus), *(sets or []), *options.overrides]
    file = load_file(scenario, overrides, variant)
    engines = _engines(engine)
    client = load_target(target) if target else None
    chosen = seeds_of(seed, seeds, file)
    names = file.names(variant)
    prepared = {name: prepare_variant(file, name, scenario.parent) for name in names}
    folder = out or Path("results/runs") / file.written.name
    check_folder("--out", folder)
    places = [
        place_of(folder, name, how, one) for name in names for how in engines for one in chosen
    ]
    if endpoint:
        check_plan(list(prepared.values()), len(places))
    check_journals(places, list(prepared.values()), resume=resume, real=endpoint is not None)
    if json_to is not None and json_to != STDOUT:
        check_file("--json", json_to)
    # A target's own prints must not get between the lines of the JSON either.
    with redirect_stdout(sys.stderr) if json_to == STDOUT else nullcontext():
        console = Console(highlight=False)
        _foretell(console, prepared, foreign=client is not None)
        if endpoint:
            prepared = {n: agreed(console, it, endpoint, yes=yes) for n, it in prepared.items()}
        runs, broken_off = _run_all(
            file, prepared, engines, chosen, client, folder, resume=resume, endpoint=endpoint
        )
        explain_connections(runs)
        told = agreements(runs)
        document = document_of([one.report for one in runs], msgspec.to_builtins(told))
        if json_to is not None and json_to != STDOUT:
            write_json(json_to, document)  # before a reader of the table can go away
        if tell_runs(console, document, {n for it in prepared.values() for n in it.corpus.notes}):
            _tell_more(console, scenario, prepared, document)
    if json_to == STDOUT:
        write_json(json_to, document)
    return INTERRUPTED if broken_off else _exit_code(runs, told)


def _corpus_overrides(corpus: str | None) -> list[str]:
    """`--corpus` replaces the whole: the scenario's column mapping was for another file."""
    if corpus is None:
        return []
    return [f"workload.corpus={json.dumps(corpus)}", "workload.columns={}"]


def _engines(name: str) -> list[str]:
    """The engines that a name stands for: `all` are those that need no money."""
    if name == ALL:
        return list(ENGINES)
    if name != REAL:
        engine_named(name)
    return [name]


def seeds_of(seed: int | None, seeds: str | None, file: ScenarioFile) -> list[int]:
    """The seeds that `--seed` or `--seeds` ask for.

    Raises:
        InputError: they are none, or too many.
    """
    if seeds is None:
        return [file.written.seed if seed is None else seed]
    first, dash, last = seeds.partition("-")
    if seed is not None or not dash or not (first.isdecimal() and last.isdecimal()):
        raise InputError(f"--seeds {seeds}: write it as A-B, such as 1-16, and without --seed")
    chosen = range(int(first), int(last) + 1)
    if not chosen:
        raise InputError(f"--seeds {seeds}: the first must not be greater than the last")
    if len(chosen) > MOST_SEEDS:
        raise InputError(f"--seeds {seeds}: {len(chosen):,} seeds; {MOST_SEEDS:,} are the most")
    return list(chosen)


def _foretell(console: Console, prepared: dict[str, Prepared], *, foreign: bool) -> None:
    """Distribution and cost before any call, what is odd about the corpus, and what is not meant.

    Of a foreign client's calls nothing is known before they come.
    """
    told: set[str] = set()
    for name, ready in prepared.items() if not foreign else ():
        projection = ready.projection
        shares = ", ".join(
            f"{percent(share)} {model.rpartition('/')[2]}"
            for model, share in projection.distribution.items()
        )
        line = (
            f"before any call: {shares}; {usd(projection.cost_usd)} "
            f"for {projection.requests:,} requests"
        )
        if line not in told:
            told.add(line)
            console.print(f"[dim]{escape(f'{name}: {line}')}[/]")
    for text in dict.fromkeys(
        warning
        for ready in prepared.values()
        for warning in (*ready.corpus.guards.warnings, *ready.corpus.notes)
    ):
        console.print(f"[yellow]corpus: {escape(text)}[/]")
    if not foreign:
        for line in lint_lines({name: lint(ready) for name, ready in prepared.items()}):
            console.print(f"[yellow]lint: {escape(line)}[/]")


def _run_all(
    file: ScenarioFile,
    prepared: dict[str, Prepared],
    engines: Sequence[str],
    seeds: Sequence[int],
    target: Target | None,
    folder: Path,
    *,
    resume: bool,
    endpoint: Endpoint | None,
) -> tuple[list[Run], bool]:
    """The runs, each saved as soon as it has ended, and whether Ctrl-C came before the last."""
    plan = [(name, how, seed) for name in prepared for how in engines for seed in seeds]
    runs: list[Run] = []
    with Watcher(len(plan)) as watcher:
        for name, engine, seed in plan:
            try:
                one = run_and_save(
                    prepared[name],
                    folder,
                    variant=name,
                    expect=file.variant(name).expect,
                    claim=file.variant(name).claim,
                    engine=engine,
                    seed=seed,
                    target=target,
                    on_progress=watcher.begin(name, seed),
                    resume=resume,
                    endpoint=endpoint,
                )
            except KeyboardInterrupt:  # between two runs; in one it stops the job instead
                if not runs:
                    raise
                return runs, True
            runs.append(one)
            if one.result.stopped == "interrupted":
                return runs, True
    return runs, False


def tell_runs(console: Console, document: Mapping[str, Any], known: Collection[str] = ()) -> bool:
    """Tables, headline and lessons of a document; notes that are `known` have been told.

    Returns:
        Whether anything in it was measured.
    """
    if silent := [one for one in document["runs"] if one["engine"] == THEORY]:
        console.print(theory_table(silent))
    if not (reports := _measured(document["runs"])):
        return False
    variants = {one["variant"]: Variant(claim=one.get("claim", "")) for one in reports}
    console.print(run_table(reports, variants))
    for table in agreement_tables(document["agreement"]):
        console.print(table)
    console.print(f"\n[bold]{escape(headline(reports))}[/]")
    for lesson in lessons(reports):
        console.print(f"  {escape(lesson)}")
    for note in dict.fromkeys(n for report in reports for n in report["notes"] if n not in known):
        console.print(f"[dim]{escape(note)}[/]")
    return True


def _tell_more(
    console: Console, path: Path, prepared: dict[str, Prepared], document: Mapping[str, Any]
) -> None:
    """What to try next."""
    reports = _measured(document["runs"])
    name = shlex.quote(str(path))
    best = best_of(reports)
    variant = shlex.quote(reports[0]["variant"] if best is None else best)
    batch = all(ready.scenario.workload.kind == "batch" for ready in prepared.values())
    more = "--set pipeline.concurrency=10" if batch else "--set pipeline.workers=10"
    ideas = ["--corpus reviews.csv", f"--variant {variant} {more}"]
    if batch:  # a client of one's own takes a batch
        ideas.append(f"--variant {variant} --target package.module:function")
    lines = [f"  harness run {name} {idea}" for idea in ideas]
    console.print(
        "\n".join(["\nNow try yours:", *lines]),
        soft_wrap=True,
        markup=False,
    )


def document_of(
    reports: Sequence[dict[str, Any]], agreement: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What `--json` writes of runs."""
    measured = _measured(reports)
    return {
        "runs": reports,
        "agreement": agreement,
        "means": means(reports),
        "headline": headline(measured) if measured else None,
        "lessons": lessons(measured),
    }


def _measured(reports: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The reports of what was run: theory has figures that nobody measured, and gaps."""
    return [report for report in reports if report["engine"] != THEORY]


def write_json(where: str, document: dict[str, Any]) -> None:
    """Write what `--json` asks for; `-` is standard output.

    Raises:
        InputError: the file cannot be written.
    """
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    if where == STDOUT:
        sys.stdout.write(text)
        return
    try:
        write_whole(Path(where), [text.encode()])
    except OSError as error:
        raise InputError(f"--json {where}: cannot be written: {error.strerror}") from error


def _exit_code(runs: Sequence[Run], told: Sequence[Agreement]) -> int:
    if not all(one.report["valid"] for one in runs):
        return 3
    if any(one.result.stopped == "budget" for one in runs):
        return NO_MONEY
    return 0 if all(one.as_expected for one in runs) and all(one.agreed for one in told) else 1
