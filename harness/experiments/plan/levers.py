"""What holds a configuration back: every knob turned by one unit, on the same weather."""

from collections.abc import Iterator, Sequence
from itertools import compress, islice
from math import ceil
from statistics import fmean
from typing import Any, Literal, NamedTuple

import msgspec

from harness.experiments.plan.judge import value
from harness.experiments.plan.search import Candidate, Sweep
from harness.experiments.points import Point, Task
from harness.scenario.model import Scenario
from harness.scenario.slo import Bound
from harness.statistics import Interval, compare, paired

RUNS = 4
"""Paired runs of each: what is in common drops out, so that few will do."""

FEW = 2
"""Paired runs of a lever that changed nothing in them, to the last digit of any figure."""

TENTH = 0.1
NOTHING = 0.002
"""A change of the figure by less than this share of it is nothing to buy."""


class Lever(NamedTuple):
    """One unit more of something.

    Attributes:
        constraint: what it loosens: `concurrency`, `workers`, `provider limit`, `barrier`, ...
        path: the key that it turns.
        step: what is added; a share of what is there if it is below 1.
        unit: told with the new value in the braces.
        kind: of the workload that it is for; None: any.
    """

    constraint: str
    path: str
    step: float
    unit: str
    kind: Literal["batch", "service"] | None = None


LEVERS = (
    Lever("concurrency", "pipeline.concurrency", 1, "one slot more ({:,})", "batch"),
    Lever("concurrency", "pipeline.adaptive.highest", 1, "one slot more ({:,})"),
    Lever("workers", "pipeline.workers", 1, "one worker more ({:,})", "service"),
    Lever("queue", "pipeline.queue.size", TENTH, "a queue of {:,}", "service"),
    Lever("barrier", "pipeline.barrier", -1, "no barrier", "batch"),
    Lever("limit per user", "pipeline.rate_limit", TENTH, "{:,} a minute for each user"),
    Lever("connections", "pipeline.pool_limit", 1, "one connection more ({:,})"),
    Lever("retries", "pipeline.retries", 1, "one retry more ({:,})"),
    Lever("time limit", "pipeline.attempt_timeout_s", -TENTH, "a time limit of {:g} s"),
    Lever("budget", "pipeline.budget.run_usd", TENTH, "a budget of ${:,.4g}"),
    Lever("provider limit", "upstream.throttle.requests_per_min", TENTH, "{:,} requests a minute"),
    Lever("provider limit", "upstream.throttle.tokens_per_min", TENTH, "{:,} tokens a minute"),
    Lever("provider limit", "upstream.throttle.concurrent", 1, "{:,} calls at the provider"),
    Lever("provider capacity", "upstream.capacity.slots", 1, "{:,} slots of the provider"),
)


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """What a unit buys.

    Attributes:
        constraint: see `Lever`.
        unit: likewise.
        before: the figure as it is, mean of several runs.
        change: of the figure, with its 95 % interval, over so many paired runs as it says.
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


class Turned(NamedTuple):
    """A lever as it is turned: by what share of what there is, and the scenario with it."""

    lever: Lever
    text: str
    share: float
    scenario: Scenario


def turned(scenario: Scenario) -> Iterator[Turned]:
    """Everything of which one unit more could help."""
    kind = "batch" if scenario.workload.kind == "batch" else "service"
    for lever in LEVERS:
        path = lever.path.split(".")
        now = _at(scenario, path)
        idle = lever.path == "pipeline.concurrency" and scenario.pipeline.adaptive is not None
        absent = now is None or now is False or (now == 0 and lever.step < 1)
        if absent or idle or lever.kind not in {None, kind}:
            continue
        new: Any = now + (lever.step * now if abs(lever.step) < 1 else lever.step)
        if isinstance(now, bool):
            new = False
        elif isinstance(now, int):
            new = ceil(new)
        share = abs(new - now) / now if now else 1.0
        yield Turned(lever, lever.unit.format(new), share, _put(scenario, path, new))


def _at(table: Any, path: Sequence[str]) -> Any:
    for part in path:
        table = getattr(table, part, None)
    return table


def _put(table: Any, path: Sequence[str], value: object) -> Any:
    key, *rest = path
    inner = _put(getattr(table, key), rest, value) if rest else value
    return msgspec.structs.replace(table, **{key: inner})


def worths(one: Candidate, bound: Bound, sweep: Sweep) -> list[Worth]:
    """What a unit of each lever buys in the figure of a promise, the best first.

    Args:
        one: the configuration; it is run on as many seeds as the levers are.
        bound: the promise whose figure counts.
        sweep: makes the runs.
    """
    known = list(turned(one.configuration.scenario))
    base = sweep([one.seed(n) for n in range(RUNS)])
    usual = [point.figures for point in base[:FEW]]
    tasks = [[_with(one.seed(n), each) for n in range(RUNS)] for each in known]
    few = sweep([task for each in tasks for task in each[:FEW]])
    groups = [few[at : at + FEW] for at in range(0, len(few), FEW)]
    acts = [[one.figures for one in group] != usual for group in groups]
    more = iter(sweep([task for each in compress(tasks, acts) for task in each[FEW:]]))
    groups = [
        [*group, *islice(more, RUNS - FEW if act else 0)]
        for group, act in zip(groups, acts, strict=True)
    ]
    found = [_worth(each, bound, base, group) for each, group in zip(known, groups, strict=True)]
    return sorted(found, key=lambda worth: (not worth.better, -worth.elasticity))


def _with(task: Task, each: Turned) -> Task:
    label = f"{task.label}, {each.text}"
    return msgspec.structs.replace(task, scenario=each.scenario, label=label)


def _worth(each: Turned, bound: Bound, base: Sequence[Point], turned: Sequence[Point]) -> Worth:
    # Differences of times end in some rounding, which is no change: a nanosecond is left of it.
    before, after = (
        [round(value(point, bound), 9) for point in points] for points in (base, turned)
    )
    bills = [[point.figures["cost_usd"] or 0.0 for point in points] for points in (base, turned)]
    both = before[: len(after)]
    mean = fmean(before)
    up = ">" in bound.op
    least = NOTHING * abs(mean)
    answer = compare(after, both, higher_is_better=up, indifference=least)
    change = paired(after, both)
    gain = change.mean if up else -change.mean
    return Worth(
        constraint=each.lever.constraint,
        unit=each.text,
        before=mean,
        change=change,
        better=answer == "better",
        elasticity=gain / abs(mean) / each.share if mean else 0.0,
        usd=fmean(bills[1]) - fmean(bills[0][: len(after)]),
    )


def binding(found: Sequence[Worth]) -> Worth | None:
    """What holds it back: where a unit is worth the most, if any is worth something."""
    return found[0] if found and found[0].better else None
