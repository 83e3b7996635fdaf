"""`harness plan`: the cheapest configuration that reaches a goal, and what holds it back."""

import os
import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.cli.progress import Stages
from harness.cli.run import STDOUT, Json, Scenario, Sets, write_json
from harness.errors import InputError
from harness.experiments.executors import Kept, executor, sweep
from harness.experiments.plan import (
    Candidate,
    Plan,
    Worth,
    ask,
    binding,
    cheapest_first,
    plan,
    shown,
    value,
)
from harness.experiments.plan.document import ORDER, document, on_frontier, price_of
from harness.places import check_file, check_folder
from harness.report.text import usd
from harness.scenario.load import BASE

POINTS = "points.jsonl"
WORDS: dict[str | None, tuple[str, str]] = {
    "in": ("green", "holds"),
    "close": ("yellow", "holds so far"),
    "out": ("red", "misses"),
    None: ("dim", "not run"),
}
SHOWN = 8
"""Rows of the table: the answer, its neighbours, and what else is near."""


def plan_command(
    scenario: Scenario,
    goals: Annotated[
        list[str] | None,
        typer.Option("--goal", help='"5000 reviews in 600 s", "1000 users", "40/s"; repeatable.'),
    ] = None,
    slo: Annotated[
        list[str] | None,
        typer.Option("--slo", help="A promise, such as timeout_rate<=0.001; repeatable."),
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option("--over", help="A knob: pipeline.concurrency=5,10 or 5-50:5; repeatable."),
    ] = None,
    engine: Annotated[str, typer.Option(help="Which makes the runs: sim|virtual.")] = "sim",
    variant: Annotated[str, typer.Option(help="A variant's name, or base.")] = BASE,
    sets: Sets = None,
    seed: Annotated[int | None, typer.Option(help="First seed; default: the scenario's.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes; default: one a core.")] = 0,
    dask: Annotated[
        str | None, typer.Option(help="Make the runs on a Dask cluster.", metavar="ADDRESS")
    ] = None,
    every: Annotated[
        bool, typer.Option("--every", help="Run every configuration, dearer ones than needed too.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder; default results/runs/<scenario>/plan.")
    ] = None,
    json_to: Json = None,
) -> int:
    """Find the cheapest configuration that reaches a goal, and say what holds it back."""
    if engine not in {"sim", "virtual"}:
        raise InputError(f"--engine {engine}: a plan takes many runs; sim and virtual make them")
    if jobs < 0:
        raise InputError(f"--jobs {jobs}: at least one; 0 is one a core")
    question = ask(
        scenario,
        goals=goals or (),
        slo=slo or (),
        over=over or (),
        sets=sets or (),
        variant=variant,
        engine=engine,
        seed=seed,
    )
    folder = out or Path("results/runs") / question.scenario.name / "plan"
    check_folder("--out", folder)
    if json_to is not None and json_to != STDOUT:
        check_file("--json", json_to)
    kept = Kept(folder / POINTS)
    with executor(jobs or os.cpu_count() or 1, dask) as pool, Stages() as stages:
        run = partial(sweep, pool=pool, kept=kept, on_point=stages.count)
        found = plan(question, run, stages.begin, every=every)
    folder.mkdir(parents=True, exist_ok=True)  # made already, unless nothing had to run
    write_json(str(folder / "plan.json"), document(found))
    pictures = draw(found, folder)
    if json_to is not None:
        write_json(json_to, document(found))
    _tell(Console(highlight=False, stderr=json_to == STDOUT), found, pictures)
    return 0 if found.holds else 1


def draw(found: Plan, folder: Path) -> list[Path]:
    """The pictures that there is something to see in."""
    from harness.report.plots import Spot, draw_capacity, draw_frontier  # half a second

    made: list[Path] = []
    curve, best, about = found.curve, found.winner, found.tightest
    title = f"{found.question.scenario.name}: " + ", ".join(g.text for g in found.question.goals)
    if curve is not None:
        chosen = None if best is None else float(best.configuration.chosen[curve.knob].value)
        made.append(folder / "capacity.png")
        draw_capacity(
            made[-1],
            curve.dots,
            title=title,
            knob=curve.knob,
            metric=f"{curve.metric} (one run each)",
            knee=curve.knee,
            chosen=chosen,
            limit=_limit(found, curve.metric),
        )
    ran = [one for one in found.candidates if one.points]
    if len(ran) > 1:
        name, price = price_of(found)
        spots = [
            Spot(price(one), value(one.points[0], about), one.holds, one.configuration.label)
            for one in ran
        ]
        made.append(folder / "frontier.png")
        draw_frontier(
            made[-1],
            spots,
            title=title,
            price=name,
            metric=f"{about.metric} (first run of each)",
            best=[ran.index(one) for one in on_frontier(found)],
            chosen=ran.index(best) if best else None,
            limit=about.limit,
        )
    return made


def _limit(found: Plan, metric: str) -> float | None:
    """What is promised along an axis; a time for all reviews is a rate."""
    promised = {bound.metric: bound.limit for bound in found.question.bounds}
    if metric == "throughput_per_s" and metric not in promised and "duration_s" in promised:
        return found.question.scenario.workload.reviews / promised["duration_s"]
    return promised.get(metric)


def _tell(console: Console, found: Plan, pictures: list[Path]) -> None:
    question, ran = found.question, sum(bool(one.points) for one in found.candidates)
    promised = ", ".join(shown(bound) for bound in question.bounds)
    console.print(f"promises: {promised}", markup=False, soft_wrap=True)
    runs = sum(len(one.points) for one in found.candidates)
    told = f"{len(found.candidates):,} configurations, {ran:,} of them run, {runs:,} runs"
    if found.spared:
        told += f"; {found.spared:,} were not made, being the same with fewer retries"
    console.print(f"{told}; {ORDER}", soft_wrap=True)
    if ran:
        console.print(_table(found))
    for line in _answer(found):
        console.print(escape(line), soft_wrap=True)
    for note in question.notes:
        console.print(f"[dim]{escape(note)}[/]", soft_wrap=True)
    for path in pictures:
        console.print(f"picture: {path}", markup=False, soft_wrap=True)


def _table(found: Plan) -> Table:
    table = Table(title_justify="left")
    about = found.tightest.metric
    for header in ("configuration", "dollars", about, "runs", "verdict"):
        table.add_column(header, overflow="fold")
    for one in _rows(found):
        color, word = WORDS[one.verdict]
        word = "recommended" if one is found.winner else word
        table.add_row(
            escape(one.configuration.label),
            usd(one.cost_usd) if one.points else "",
            f"{one.mean(found.tightest):.4g}" if one.points else "",
            str(len(one.points)),
            f"[{color}]{word}[/]: {escape(one.why)}",
        )
    return table


def _rows(found: Plan) -> list[Candidate]:
    """The answer, what is next to it on either side, and where nothing holds what comes closest."""
    rows = [one for one in (found.cheaper, found.winner or found.closest) if one is not None]
    others = [one for one in found.candidates if one.holds and one.points and one not in rows]
    if found.winner is None:
        others += [one for one in on_frontier(found) if one not in rows]
    return [*rows, *cheapest_first(others)][:SHOWN]


def _answer(found: Plan) -> list[str]:
    best, about = found.winner, found.tightest
    if best is None:
        lines = [f"infeasible: {found.why}"]
    else:
        lines = [f"recommended: {best.configuration.label}: {best.why}"]
        if found.cheaper is not None:
            one = found.cheaper
            word = WORDS[one.verdict][1]
            lines.append(f"  next cheaper: {one.configuration.label}: {word}: {one.why}")
        for name, said in found.verified.items():
            same = "the same figures" if said.agrees else "other figures than the planning engine"
            word = f"misses {said.missed}" if said.missed else "holds"
            lines.append(f"  virtual engine, {name}: {word} ({same})")
        flags = [*found.question.sets, *best.configuration.flags()]
        options = " ".join(f"--set {shlex.quote(flag)}" for flag in flags)
        command = f"harness run {shlex.quote(str(found.question.path))}"
        lines.append(f"  {command} --variant {found.question.variant} {options}")
    worth = binding(found.worths)
    if found.worths:
        name = worth.constraint if worth else "none of these: the calls' own time"
        lines.append(f"binding: {name}. What the next unit of each buys:")
        lines += [f"  {_bought(one, about.metric)}" for one in found.worths]
    if found.curve is not None and found.curve.knee is not None:
        lines.append(f"knee: from {found.curve.knob} = {found.curve.knee:g} on more is worth less")
    return lines


def _bought(one: Worth, metric: str) -> str:
    share = one.change.mean / abs(one.before) if one.before else 0.0
    told = f"{one.unit}: {metric} {one.before:.4g} {one.change.mean:+.3g}"
    told += f" ± {one.change.half_width:.2g} ({share:+.1%})"
    if abs(one.usd) >= 0.005:
        told += f", {'+' if one.usd > 0 else '-'}{usd(abs(one.usd))}"
    return told if one.better else f"{told}: nothing in {one.change.n} runs"
