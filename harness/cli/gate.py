"""`harness gate`: fail when something got worse."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from harness.errors import InputError
from harness.experiments.gate import (
    Baseline,
    Check,
    checks_of,
    read_baselines,
    run_baseline,
    updated,
    write_baseline,
)

_STYLE = {"worse": "red", "broken": "bold red", "better": "green", "changed": "yellow"}
FIRST = "scenarios/timeout_crisis.toml"


def gate(
    baseline: Annotated[Path, typer.Option(help="Folder of baselines.")] = Path(
        "results/baselines"
    ),
    update: Annotated[bool, typer.Option("--update", help="Take today's figures over.")] = False,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Try a change: override dotted.key=value.", metavar="KEY=VALUE"),
    ] = None,
    scenario: Annotated[
        str, typer.Option(help="With --update in an empty folder: what to guard.")
    ] = FIRST,
) -> int:
    """Run every baseline's scenario again on the virtual clock; exit 1 when a figure is worse."""
    console = Console(highlight=False)
    if update:
        if sets:
            raise InputError("--update with --set: a change under trial is no baseline")
        return _update(console, baseline, scenario)
    checks: list[Check] = []
    for name, known in read_baselines(baseline).items():
        for run in run_baseline(known, sets or []):
            checks += checks_of(name, known, run)
            console.print(f"[dim]{name}: {run.variant} done[/]")
    return _tell(console, checks)


def _update(console: Console, folder: Path, scenario: str) -> int:
    try:
        known = read_baselines(folder)
    except InputError:
        if any(folder.glob("*.json")):
            raise
        known = {Path(scenario).stem: Baseline(scenario=scenario)}
    for name, old in known.items():
        # The scenario's own variants: new ones come in, dropped ones go out.
        runs = list(run_baseline(Baseline(scenario=old.scenario, settings=old.settings), []))
        write_baseline(updated(old, runs), folder / f"{name}.json")
        console.print(f"{folder / name}.json: {len(runs)} variants")
    return 0


def _tell(console: Console, checks: Sequence[Check]) -> int:
    told = [check for check in checks if check.state != "same"]
    if told:
        table = Table()
        for column in ("baseline", "variant", "figure", "before", "now", ""):
            table.add_column(column)
        for check in told:
            style = _STYLE[check.state]
            table.add_row(
                check.baseline,
                check.variant,
                check.figure,
                _shown(check.before),
                _shown(check.now),
                f"[{style}]{check.state}[/]",
            )
        console.print(table)
    bad = sum(check.state in {"worse", "broken"} for check in checks)
    changed = sum(check.state in {"changed", "better"} for check in checks)
    same = len(checks) - bad - changed
    console.print(f"gate: {same} figures the same, {changed} changed or better, {bad} worse")
    return 1 if bad else 0


def _shown(value: float | str) -> str:
    return value[:12] if isinstance(value, str) else f"{value:.6g}"
