"""`harness agree`: every engine on one scenario, and whether they say the same."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from harness.cli.run import STDOUT, Chosen, Json, Scenario, Seed, Seeds, Sets, seeds_of, write_json
from harness.errors import InputError
from harness.experiments.agree import DEFAULT, agreements, comparable, fly_all, witnesses
from harness.experiments.run import REAL, Run, engine_named, prepare_variant
from harness.places import check_file
from harness.report.agreement import agreement_tables, difference_table
from harness.scenario.load import load_file

INVALID = 3

Engines = Annotated[
    str | None,
    typer.Option(help="Engines, two or more, with commas; live takes real time.", metavar="A,B"),
]


def agree(
    scenario: Scenario,
    engines: Engines = None,
    variant: Chosen = "all",
    seed: Seed = None,
    seeds: Seeds = None,
    sets: Sets = None,
    json_to: Json = None,
) -> int:
    """Run a scenario on several engines and name the first request that differs."""
    names = _engines(engines)
    file = load_file(scenario, sets or [], variant)
    prepared = {name: prepare_variant(file, name, scenario.parent) for name in file.names(variant)}
    chosen = seeds_of(seed, seeds, file)
    if json_to is not None and json_to != STDOUT:
        check_file("--json", json_to)
    with redirect_stdout(sys.stderr) if json_to == STDOUT else nullcontext():
        console = Console(highlight=False)
        runs: list[Run] = []
        for name, ready in prepared.items():
            expect = file.variant(name).expect
            for one in fly_all(ready, variant=name, expect=expect, engines=names, seeds=chosen):
                runs.append(one)
                console.print(f"[dim]{escape(f'{name}, {one.engine}, seed {one.seed}')} done[/]")
        document = document_of(runs)
        if json_to is not None and json_to != STDOUT:
            write_json(json_to, document)
        tell(console, document)
    if json_to == STDOUT:
        write_json(json_to, document)
    return _code(document)


def _engines(named: str | None) -> list[str]:
    """The engines to ask, each once.

    Raises:
        InputError: one is none, or there are no two to compare.
    """
    names = list(dict.fromkeys(part.strip() for part in (named or ",".join(DEFAULT)).split(",")))
    for name in names:
        if name == REAL:
            raise InputError(f"--engines {named}: real has weather of its own to compare with")
        engine_named(name)
    if not comparable(names):
        given = ",".join(names)
        raise InputError(f"--engines {given}: no two to compare; sim,virtual or virtual,live are")
    return names


def document_of(runs: Sequence[Run]) -> dict[str, Any]:
    """What `--json` writes."""
    told = agreements(runs)
    return {
        "runs": [one.report for one in runs],
        "agreement": msgspec.to_builtins(told),
        "witnesses": witnesses(runs, told),
    }


def tell(console: Console, document: Mapping[str, Any]) -> None:
    """The differences, the first request that differs, and what all that is worth."""
    found = document["agreement"]
    for table in agreement_tables(found):
        console.print(table)
    for one in found:
        if one["first_difference"] is not None:
            console.print(difference_table(one["first_difference"], one["left"], one["right"]))
    for line in document["witnesses"]:
        console.print(f"[dim]{escape(line)}[/]")
    agreed = sum(one["agreed"] for one in found)
    console.print(f"agree: {agreed} of {len(found)} comparisons agree")


def _code(document: Mapping[str, Any]) -> int:
    if not all(one["agreed"] for one in document["agreement"]):
        return 1
    live = [one for one in document["runs"] if one["engine"] == "live"]
    return 0 if all(one["valid"] for one in live) else INVALID
