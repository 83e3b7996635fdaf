"""`harness lint`: what is probably not meant in a scenario."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from harness.cli.run import STDOUT, Chosen, Json, Scenario, Sets, write_json
from harness.engines.base import prepare
from harness.experiments.lint import Warn, lint_lines
from harness.experiments.lint import lint as warnings_of
from harness.places import check_file
from harness.scenario.load import ScenarioFile, load_file


def lint(
    scenario: Scenario,
    variant: Chosen = "all",
    sets: Sets = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 if a variant that is to pass has warnings.")
    ] = False,
    json_to: Json = None,
) -> int:
    """Say what is probably not meant in a scenario; nothing runs."""
    file = load_file(scenario, sets or [], variant)
    if json_to is not None and json_to != STDOUT:
        check_file("--json", json_to)
    base = scenario.parent
    names = file.names(variant)
    found = {name: warnings_of(prepare(file.resolve(name), base=base)) for name in names}
    lines = lint_lines(found)
    console = Console(highlight=False, stderr=json_to == STDOUT)
    for line in lines:
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    plural = "" if len(lines) == 1 else "s"
    console.print(f"lint: {len(lines)} warning{plural}" if lines else "lint: fine")
    if json_to is not None:
        write_json(json_to, {"warnings": list(_rows(file, found))})
    bad = any(warned and file.variant(name).expect == "pass" for name, warned in found.items())
    return 1 if strict and bad else 0


def _rows(file: ScenarioFile, found: Mapping[str, Sequence[Warn]]) -> Iterator[dict[str, Any]]:
    for name, warned in found.items():
        about = {
            "scenario": file.written.name,
            "variant": name,
            "expect": file.variant(name).expect,
        }
        for one in warned:
            yield about | msgspec.to_builtins(one)
