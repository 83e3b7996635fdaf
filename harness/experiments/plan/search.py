"""The search: the cheapest configuration that keeps the promises, with as few runs as will do.

Theory of operation. Bounds rule out what cannot be. All others run once, on the weather of the
first seed; where more slots can only help, the least number is looked for by halving. Then those
that held are taken up from the cheapest: each runs on, seed after seed, until it is in or out, and
the first that is in is the answer. Everything cheaper is out by then, and nothing dearer needs to
be known better. All runs of a seed have the same weather, so that dollars are compared like for
like.
"""

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

import msgspec

from harness.experiments.plan.bounds import Reason, impossible, slots_only_help
from harness.experiments.plan.judge import LEAST, MOST, Verdict, excess, value, verdict
from harness.experiments.plan.knobs import Configuration
from harness.experiments.points import Point, Task, prepared_for
from harness.scenario.slo import Bound

Sweep = Callable[[Sequence[Task]], list[Point]]
SAME_DOLLARS = 1.01
"""Bills within one per cent of each other are the same: which context goes along varies them."""

WAVE = 4
"""Seeds at once, once a configuration is taken up."""


class Candidate:
    """A configuration, and what is known of it.

    Attributes:
        configuration: how the knobs are set.
        impossible: why it cannot be; None: nothing speaks against it.
        like: one with fewer slots that held, where more can only help.
        points: its runs, the first seeds first.
        verdict: what they say; None: it has not run.
        why: they say so.
    """

    def __init__(self, configuration: Configuration, ruled_out: Reason | None) -> None:
        self.configuration = configuration
        self.impossible = ruled_out
        self.like: Candidate | None = None
        self.points: list[Point] = []
        self.verdict: Verdict | None = "out" if ruled_out else None
        self.why = ruled_out.text if ruled_out else ""

    @property
    def holds(self) -> bool:
        """Whether no run of it missed anything, or of one that it can only be better than."""
        return self.verdict in {"in", "close"} or (self.verdict is None and self.like is not None)

    @property
    def cost_usd(self) -> float:
        """Of its run with the first seed, which all have in common; else of its like."""
        if not self.points and self.like is not None:
            return self.like.cost_usd
        return self.points[0].figures["cost_usd"] or 0.0

    def mean(self, bound: Bound) -> float:
        """Of a promised figure, over its runs."""
        return fmean(value(point, bound) for point in self.points)

    def seed(self, number: int) -> Task:
        """Its run with the n-th seed, from 0."""
        task = self.configuration.task
        return msgspec.structs.replace(task, seed=task.seed + number)

    def judge(self, points: Sequence[Point], bounds: Sequence[Bound]) -> None:
        """Take up further runs."""
        self.points += points
        self.verdict, self.why = verdict(self.points, bounds)

    def rule_out(self, why: str) -> None:
        """Take it for out, without a run of its own."""
        self.verdict, self.why = "out", why


class Line:
    """Configurations that differ in slots alone, fewest first, if more can only help; or one."""

    def __init__(self, members: Sequence[Candidate]) -> None:
        self._members = members
        self._low, self._high = 0, len(members)

    @property
    def next(self) -> Candidate | None:
        """Whom to run next: the middle of what is not known yet."""
        if self._low == self._high:
            return None
        return self._members[(self._low + self._high) // 2]

    def learn(self) -> None:
        """The one in the middle was judged: it speaks for all on one side of it."""
        middle = (self._low + self._high) // 2
        one = self._members[middle]
        if one.holds:
            for other in self._members[middle + 1 : self._high]:
                other.like, other.why = one, f"more slots than {one.configuration.label}"
            self._high = middle
            return
        for other in self._members[self._low : middle]:
            other.rule_out(f"fewer slots than {one.configuration.label}, which is out")
        self._low = middle + 1


def candidates(configurations: Sequence[Configuration], bounds: Sequence[Bound]) -> list[Candidate]:
    """All of them, those that cannot be ruled out by their numbers."""
    return [Candidate(one, impossible(prepared_for(one.task), bounds)) for one in configurations]


def screen(found: Sequence[Candidate], bounds: Sequence[Bound], sweep: Sweep) -> None:
    """Run what may be once, or settle it by a neighbour that was."""
    lines = list(_lines([one for one in found if one.impossible is None], bounds))
    while wave := [(line, one) for line in lines if (one := line.next) is not None]:
        points = sweep([one.seed(0) for _, one in wave])
        for (line, one), point in zip(wave, points, strict=True):
            one.judge([point], bounds)
            line.learn()


def _lines(found: Sequence[Candidate], bounds: Sequence[Bound]) -> Iterator[Line]:
    groups: dict[str, list[Candidate]] = {}
    for one in found:
        if slots_only_help(prepared_for(one.configuration.task), bounds):
            scenario = one.configuration.scenario
            pipe = msgspec.structs.replace(scenario.pipeline, concurrency=1)
            group = repr((scenario.workload, scenario.upstream, pipe))
            groups.setdefault(group, []).append(one)
        else:
            yield Line([one])
    for members in groups.values():
        yield Line(sorted(members, key=lambda one: one.configuration.slots))


def cheapest_first(found: Sequence[Candidate]) -> Iterator[Candidate]:
    """Those that held, by dollars; where the bills are the same, by what else they take."""
    left = [one for one in found if one.holds]
    while left:
        least = min(one.cost_usd for one in left)
        same = [one for one in left if one.cost_usd <= SAME_DOLLARS * least]
        best = min(same, key=lambda one: one.configuration.resources)
        yield best
        left.remove(best)


def winner(found: Sequence[Candidate], bounds: Sequence[Bound], sweep: Sweep) -> Candidate | None:
    """The cheapest that is in; everything cheaper is out, or too close, when this returns."""
    for one in cheapest_first(found):
        while one.holds and one.verdict != "in" and len(one.points) < MOST:
            done = len(one.points)
            until = min(done + WAVE, LEAST if done < LEAST else MOST)
            one.judge(sweep([one.seed(n) for n in range(done, until)]), bounds)
        if one.verdict == "in":
            return one
    return None


def next_cheaper(
    found: Sequence[Candidate], best: Candidate, bounds: Sequence[Bound], sweep: Sweep
) -> Candidate | None:
    """The next cheaper one than the winner, run on the same seeds.

    That is: for the same dollars as much else as can be, but less than the winner takes; or, where
    nothing is as dear as that, fewer dollars.
    """
    limit, least = SAME_DOLLARS * best.cost_usd, best.cost_usd / SAME_DOLLARS
    took = best.configuration.resources
    same, less = [], []
    for one in found:
        if one is best or one.impossible is not None:
            continue
        dollars = one.cost_usd if one.points else best.cost_usd  # settled by its like: the same
        if least <= dollars <= limit and one.configuration.resources < took:
            same.append(one)
        elif dollars < least:
            less.append(one)
    if same:
        one = max(same, key=lambda one: one.configuration.resources)
    elif less:
        one = max(less, key=lambda one: one.cost_usd)
    else:
        return None
    missing = range(len(one.points), len(best.points))
    one.judge(sweep([one.seed(n) for n in missing]), bounds)
    return one


def closest(found: Sequence[Candidate], bounds: Sequence[Bound]) -> Candidate | None:
    """Of those that ran, the one whose worst miss is the smallest."""
    ran = [one for one in found if one.points]
    return min(
        ran, key=lambda one: max(excess(p, b) for p in one.points for b in bounds), default=None
    )
