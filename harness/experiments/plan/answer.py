"""From a question to its answer: search, verification, what binds, and the capacity curve."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from harness.experiments.plan.curve import Dot, knee
from harness.experiments.plan.judge import missed, tightest
from harness.experiments.plan.knobs import Knob
from harness.experiments.plan.levers import Worth, worths
from harness.experiments.plan.question import Question
from harness.experiments.plan.same import Sharing
from harness.experiments.plan.search import Candidate, Search, Sweep
from harness.experiments.points import Point
from harness.scenario.slo import Bound

VERIFIER = "virtual"
DOTS = 24
"""Values that a curve is drawn over, evenly spread among all, besides those that ran anyway."""

SAME = 1e-6
"""Relative difference up to which two engines say the same."""


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What the virtual engine, with the real client and real HTTP, says of a configuration.

    Attributes:
        missed: the promise that it broke the most, or None.
        agrees: whether the planning engine had the same figures with that seed.
    """

    missed: str | None
    agrees: bool


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """What one knob does, all others left as they are, in the weather of the first seed.

    Attributes:
        knob: its name.
        metric: the figure.
        dots: value of the knob -> the figure, of one run.
        knee: where more begins to be worth less; None where that is nowhere.
    """

    knob: str
    metric: str
    dots: tuple[Dot, ...]
    knee: float | None


class Plan(NamedTuple):
    """The answer.

    Attributes:
        question: what was asked.
        candidates: every configuration, in the order given.
        winner: the cheapest that is in; None: there is none.
        closest: the winner; without one what comes closest, if anything ran.
        cheaper: the next cheaper one, which misses; None: the winner is the cheapest there is.
        why: with no winner: what makes it so, with the numbers.
        tightest: the promise whose figure the levers and pictures are about.
        worths: what the next unit of each lever buys; of the closest where there is no winner.
        verified: the winner, and the next cheaper one, on the virtual engine.
        curve: None without a knob that has three numbers.
        spared: runs that were not made: others speak for them to the bit, see `Sharing`.
    """

    question: Question
    candidates: list[Candidate]
    winner: Candidate | None
    closest: Candidate | None
    cheaper: Candidate | None
    why: str
    tightest: Bound
    worths: list[Worth]
    verified: dict[str, Verified]
    curve: Curve | None
    spared: int

    @property
    def holds(self) -> bool:
        """Whether there is a winner, and the virtual engine says so too."""
        said = self.verified.get("winner")
        return self.winner is not None and (said is None or said.missed is None)


def plan(
    question: Question,
    sweep: Sweep,
    tell: Callable[[str], None] = lambda _: None,
    *,
    every: bool = False,
) -> Plan:
    """Find the cheapest configuration that keeps every promise.

    Args:
        question: see `ask`.
        sweep: makes the runs; see `executors.sweep`.
        tell: called with what comes next, a few words.
        every: run every configuration once, for the whole frontier; else what is dearer than the
            answer is not run.

    Raises:
        InputError: a run cannot be made.
    """
    tell("search")
    sweep = shared = Sharing(sweep)
    search = Search(question.configurations, question.bounds, sweep)
    if every:
        search.run_all()
    best = search.winner()
    one = best or search.closest()
    why = "" if best else _why(search.candidates, one)
    tell("the capacity curve")
    curve = _curve(question, search, one) if one else None
    while best and (again := search.winner()) is not best:  # the curve may have shown a cheaper one
        best = one = again
        curve = _curve(question, search, one) if one else None
    cheaper = search.next_cheaper(best) if best else None
    about = tightest(one.points, question.bounds) if one else question.bounds[0]
    tell("what the next unit buys")
    bought = worths(one, about, sweep) if one else []
    tell("on the virtual engine")
    return Plan(
        question=question,
        candidates=search.candidates,
        winner=best,
        closest=one,
        cheaper=cheaper,
        why=why,
        tightest=about,
        worths=bought,
        verified=_verified(question, best, cheaper, sweep),
        curve=curve,
        spared=shared.spared,
    )


def _why(found: Sequence[Candidate], one: Candidate | None) -> str:
    """What makes a goal infeasible: the bound that rules out the best, or what the closest did."""
    ruled_out = [other.impossible for other in found if other.impossible is not None]
    nearest = min(ruled_out, default=None)
    if one is None:
        return nearest.text if nearest else ""
    text = f"the closest is {one.configuration.label}: {one.why}"
    if nearest is not None:
        text += f"; {len(ruled_out)} cannot, for one {nearest.text}"
    return text


def _verified(
    question: Question,
    best: Candidate | None,
    cheaper: Candidate | None,
    sweep: Sweep,
) -> dict[str, Verified]:
    """Both on the engine with the real code, once each; the cheaper one with a seed it misses."""
    if question.engine == VERIFIER or best is None:
        return {}
    asked = {"winner": (best, 0)}
    if cheaper is not None:
        misses = (n for n, p in enumerate(cheaper.points) if missed(p, question.bounds))
        asked["cheaper"] = (cheaper, next(misses, 0))
    tasks = [
        msgspec.structs.replace(one.configuration.task, engine=VERIFIER, seed=one.points[n].seed)
        for one, n in asked.values()
    ]
    return {
        name: Verified(missed=missed(point, question.bounds), agrees=_same(point, one.points[n]))
        for (name, (one, n)), point in zip(asked.items(), sweep(tasks), strict=True)
    }


def _same(one: Point, other: Point) -> bool:
    return all(
        a == b or (a is not None and b is not None and abs(a - b) <= SAME * max(abs(a), abs(b)))
        for a, b in zip(one.figures.values(), other.figures.values(), strict=True)
    )


def main_knob(question: Question) -> Knob | None:
    """The knob that a curve is drawn over: slots or workers if they are among them."""
    numeric = [knob for knob in question.knobs if knob.numeric]
    slots = ("pipeline.concurrency", "pipeline.workers")
    return next((knob for knob in numeric if knob.name in slots), next(iter(numeric), None))


def _curve(question: Question, search: Search, one: Candidate) -> Curve | None:
    knob, about = main_knob(question), tightest(one.points, question.bounds)
    if knob is None:
        return None
    paced = question.scenario.workload.kind == "batch" or about.metric == "throughput_per_s"
    metric = "throughput_per_s" if paced else about.metric
    chosen = one.configuration.chosen
    others = {name: choice for name, choice in chosen.items() if name != knob.name}
    along = [
        each
        for each in search.candidates
        if others == {name: each.configuration.chosen[name] for name in others}
    ]
    along.sort(key=lambda each: each.configuration.chosen[knob.name].value)
    every = max(1, len(along) / DOTS)
    spread = {round(n * every) for n in range(DOTS)} | {len(along) - 1}
    along = [each for n, each in enumerate(along) if n in spread or each.points]
    search.extend(along, 1)
    dots = [
        (float(each.configuration.chosen[knob.name].value), each.points[0].figures[metric] or 0.0)
        for each in along
    ]
    return Curve(knob=knob.name, metric=metric, dots=tuple(dots), knee=knee(dots))
