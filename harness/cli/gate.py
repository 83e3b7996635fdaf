"""`harness gate`: fail when something got worse."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.errors import InputError
from harness.experiments.gate import (
    Baseline,
    Check,
    checks_of,
    guarded,
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
        for run in run_baseline(guarded(name, known), sets or []):
            checks += checks_of(name, known, run)
            console.print(f"[dim]{escape(f'{name}: {run.variant}')} done[/]")
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
        runs = list(run_baseline(msgspec.structs.replace(old, variants={}), []))
        write_baseline(updated(old, runs), folder / f"{name}.json")
        console.print(f"{escape(str(folder / name))}.json: {len(runs)} variants", soft_wrap=True)
    return 0


def _tell(console: Console, checks: Sequence[Check]) -> int:
    told = [check for check in checks if check.state != "same"]
    if told:
        table = Table()
        for column in ("baseline", "variant", "figure", "before", "now", ""):
            table.add_column(column, no_wrap=column == "figure", overflow="fold")
        for check in told:
            style = _STYLE[check.state]
            table.add_row(
                escape(check.baseline),
                escape(check.variant),
                check.figure,
                escape(_shown(check.before, check.figure)),
                escape(_shown(check.now, check.figure)),
                f"[{style}]{check.state}[/]",
            )
        console.print(table)
    bad = sum(check.state in {"worse", "broken"} for check in checks)
    changed = sum(check.state in {"changed", "better"} for check in checks)
    same = len(checks) - bad - changed
    console.print(f"gate: {same} figures the same, {changed} changed or better, {bad} worse")
    return 1 if bad else 0


def _shown(value: float | str, figure: str) -> str:
    if isinstance(value, str):
        return value[:12] if figure == "records_sha256" else value
    return str(value) if isinstance(value, int) else f"{value:.6g}"
