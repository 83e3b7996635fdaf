"""`harness report` and `harness compare`: runs that are over, told of again and side by side."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from harness.cli.run import STDOUT, Json, document_of, tell_runs, write_json
from harness.experiments.kept import read_runs
from harness.experiments.sides import compared
from harness.places import check_file
from harness.report.cases import cases_of
from harness.report.load_test import told
from harness.report.sides import sides_table

RunPlace = Annotated[
    Path, typer.Argument(help="Folder of a run, or JSON of --json or --run-json.", metavar="RUN")
]


def report(run: RunPlace, json_to: Json = None) -> int:
    """Say again what a run has said at its end: of any engine, or of a load test."""
    kept, console = read_runs(run), _console(json_to)
    document = document_of(kept.runs, kept.agreement)
    tests = [one for one in kept.runs if "users" in one]
    for one in tests:
        for part in told(one, cases_of(one, kept.agreement), kept.agreement):
            console.print(part)
    if not tests:
        tell_runs(console, document)
    _write(json_to, document)
    return 0


def compare(left: RunPlace, right: RunPlace, json_to: Json = None) -> int:
    """Hold two runs of one scenario against each other; several seeds of each are better."""
    console = _console(json_to)
    sides = [read_runs(left), read_runs(right)]
    found = compared(*sides)
    console.print(sides_table(found))
    for note in found["notes"]:
        console.print(f"[yellow]{escape(note)}[/]")
    _write(json_to, {"runs": [*sides[0].runs, *sides[1].runs], "comparison": found})
    return 0


def _console(json_to: str | None) -> Console:
    if json_to not in {None, STDOUT}:
        check_file("--json", str(json_to))
    return Console(highlight=False, stderr=json_to == STDOUT)


def _write(json_to: str | None, document: dict[str, Any]) -> None:
    if json_to is not None:
        write_json(json_to, document)
