"""What holds a configuration back: every knob turned by one unit, on the same weather."""

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

import msgspec

from harness.experiments.plan.judge import value
from harness.experiments.points import Task
from harness.experiments.plan.search import Candidate, Sweep
from harness.scenario.model import Scenario
from harness.scenario.slo import Bound
from harness.statistics import Interval, compare, paired

RUNS = 4
"""Paired runs of each: what is in common drops out, so that few will do."""

TENTH = 0.1
NOTHING = 0.002
"""A change of the figure by less than this share of it is nothing to buy."""


class Lever(msgspec.Struct, frozen=True, kw_only=True):
    """One unit more of something.

    Attributes:
        constraint: what it loosens: `concurrency`, `workers`, `provider limit`, `barrier`, ...
        text: the unit, for a person.
        share: of what there is; 1 for a switch.
        changes: table and keys -> value, of the scenario.
    """

    constraint: str
    text: str
    share: float
    changes: dict[str, dict[str, Any]]


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """What a unit buys.

    Attributes:
        constraint: see `Lever`.
        unit: likewise.
        before: the figure as it is, mean of the paired runs.
        change: of the figure, with its 95 % interval.
        better: whether it is one for the better, beyond doubt.
        elasticity: relative gain in the figure for a relative gain in what there is: of what
            binds alone it is 1, of what does not 0.
        usd: change of the bill.
    """

    constraint: str
    unit: str
    before: float
    change: Interval
    better: bool
    elasticity: float
    usd: float


def levers(scenario: Scenario) -> Iterator[Lever]:
    """Everything of which one unit more could help."""
    yield from _pipeline(scenario)
    yield from _provider(scenario)


def _pipeline(scenario: Scenario) -> Iterator[Lever]:
    pipe, batch = scenario.pipeline, scenario.workload.kind == "batch"
    if not batch:
        yield _more("workers", "pipeline", "workers", pipe.workers, "worker")
        if (size := pipe.queue.size) > 0:
            queue = msgspec.structs.replace(pipe.queue, size=size + ceil(TENTH * size))
            share, unit = queue.size / size - 1, f"a queue of {queue.size:,}"
            change = {"pipeline": {"queue": queue}}
            yield Lever(constraint="queue", text=unit, share=share, changes=change)
    elif pipe.adaptive is not None:
        more = msgspec.structs.replace(pipe.adaptive, highest=pipe.adaptive.highest + 1)
        change = {"pipeline": {"adaptive": more}}
        share = 1 / pipe.adaptive.highest
        yield Lever(constraint="concurrency", text="one slot", share=share, changes=change)
    else:
        yield _more("concurrency", "pipeline", "concurrency", pipe.concurrency, "slot")
    if batch and pipe.barrier:
        change = {"pipeline": {"barrier": False}}
        yield Lever(constraint="barrier", text="no barrier", share=1.0, changes=change)
        if pipe.batch_size is not None:
            yield _more("barrier", "pipeline", "batch_size", pipe.batch_size, "review of a batch")
    if pipe.rate_limit is not None:
        yield _tenth("limit per user", "pipeline", "rate_limit", pipe.rate_limit, "a minute")
    if pipe.pool_limit is not None:
        yield _more("connections", "pipeline", "pool_limit", pipe.pool_limit, "connection")
    yield _more("retries", "pipeline", "retries", pipe.retries, "retry")
    if pipe.budget is not None and pipe.budget.run_usd is not None:
        richer = pipe.budget.run_usd * (1 + TENTH)
        change = {"pipeline": {"budget": msgspec.structs.replace(pipe.budget, run_usd=richer)}}
        yield Lever(constraint="budget", text=f"${richer:.4g}", share=TENTH, changes=change)


def _provider(scenario: Scenario) -> Iterator[Lever]:
    throttle, capacity = scenario.upstream.throttle, scenario.upstream.capacity
    for name, unit in (("requests_per_min", "requests"), ("tokens_per_min", "tokens")):
        if (limit := getattr(throttle, name)) is not None:
            more = limit + ceil(TENTH * limit)
            change = {"upstream": {"throttle": msgspec.structs.replace(throttle, **{name: more})}}
            text = f"{more:,} {unit} a minute"
            share = more / limit - 1
            yield Lever(constraint="provider limit", text=text, share=share, changes=change)
    if (limit := throttle.concurrent) is not None:
        more = msgspec.structs.replace(throttle, concurrent=limit + 1)
        change = {"upstream": {"throttle": more}}
        text = f"{limit + 1} calls at once"
        yield Lever(constraint="provider limit", text=text, share=1 / limit, changes=change)
    if capacity is not None and capacity.slots is not None:
        more = msgspec.structs.replace(capacity, slots=capacity.slots + 1)
        text, share = f"{more.slots} slots of the provider", 1 / capacity.slots
        change = {"upstream": {"capacity": more}}
        yield Lever(constraint="provider capacity", text=text, share=share, changes=change)


def _more(constraint: str, table: str, key: str, now: int, unit: str) -> Lever:
    text = f"one {unit} more ({now + 1})"
    changes = {table: {key: now + 1}}
    return Lever(constraint=constraint, text=text, share=1 / max(1, now), changes=changes)


def _tenth(constraint: str, table: str, key: str, now: int, unit: str) -> Lever:
    more = now + ceil(TENTH * now)
    changes = {table: {key: more}}
    return Lever(
        constraint=constraint, text=f"{more:,} {unit}", share=more / now - 1, changes=changes
    )


def changed(scenario: Scenario, lever: Lever) -> Scenario:
    """The scenario with one unit more."""
    tables = {
        name: msgspec.structs.replace(getattr(scenario, name), **keys)
        for name, keys in lever.changes.items()
    }
    return msgspec.structs.replace(scenario, **tables)


def worths(one: Candidate, bound: Bound, sweep: Sweep) -> list[Worth]:
    """What a unit of each lever buys in the figure of a promise, the best first.

    Args:
        one: the configuration; it is run on as many seeds as the levers are.
        bound: the promise whose figure counts.
        sweep: makes the runs.
    """
    known = list(levers(one.configuration.scenario))
    seeds = range(RUNS)
    tasks = [one.seed(n) for n in seeds]
    for lever in known:
        tasks += [_with(one.seed(n), lever) for n in seeds]
    points = sweep(tasks)
    groups = [points[at : at + RUNS] for at in range(0, len(points), RUNS)]
    before = [value(point, bound) for point in groups[0]]
    bill = sum(point.figures["cost_usd"] or 0.0 for point in groups[0]) / RUNS
    found = []
    for lever, group in zip(known, groups[1:], strict=True):
        after = [value(point, bound) for point in group]
        dearer = sum(point.figures["cost_usd"] or 0.0 for point in group) / RUNS - bill
        found.append(_worth(lever, bound, before, after, dearer))
    return sorted(found, key=lambda worth: (not worth.better, -worth.elasticity))


def _with(task: Task, lever: Lever) -> Task:
    label = f"{task.label}, {lever.text}" if task.label else lever.text
    return msgspec.structs.replace(task, scenario=changed(task.scenario, lever), label=label)


def _worth(
    lever: Lever, bound: Bound, before: Sequence[float], after: Sequence[float], usd: float
) -> Worth:
    mean = sum(before) / len(before)
    up = ">" in bound.op
    least = NOTHING * abs(mean)
    answer = compare(after, before, higher_is_better=up, indifference=least)
    change = paired(after, before)
    gain = change.mean if up else -change.mean
    return Worth(
        constraint=lever.constraint,
        unit=lever.text,
        before=mean,
        change=change,
        better=answer == "better",
        elasticity=gain / abs(mean) / lever.share if mean else 0.0,
        usd=usd,
    )


def binding(found: Sequence[Worth]) -> Worth | None:
    """What holds it back: where a unit is worth the most, if any is worth something."""
    return found[0] if found and found[0].better else None
