"""The search: the cheapest configuration that keeps the promises, with as few runs as will do.

Theory of operation. Bounds rule out what cannot be. The rest is ranked by what it costs, as far as
that is known, and the first that is not out yet is looked at: it runs once; if that held, it runs
on, seed after seed, until it is in or out; those seeds first that were the worst for others. The
first that is in is the answer: everything cheaper is out by then, and nothing dearer needs to be
known. Where more slots can only help, a run speaks for its neighbours too, and the least number is
found by halving. All runs of a seed have the same weather, so that dollars are compared like for
like.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from statistics import fmean

import msgspec

from harness.experiments.plan.bounds import Reason, impossible, slots_only_help
from harness.experiments.plan.judge import LEAST, MOST, Verdict, excess, value, verdict
from harness.experiments.plan.knobs import Configuration
from harness.experiments.points import Point, Task, prepared_for
from harness.scenario.slo import Bound

Sweep = Callable[[Sequence[Task]], list[Point]]
SAME_DOLLARS = 1.05
"""Bills within five per cent of each other are the same: which context goes along varies them."""

WAVE = 4
"""Configurations that run at once before the next are chosen."""

STEPS = (3, 5, LEAST, 12, MOST)
"""So many runs there are of a configuration, one step after another, as long as it holds."""

SEEDS = 4
"""Runs of the next cheaper one."""


class Candidate:
    """A configuration, and what is known of it.

    Attributes:
        configuration: how the knobs are set.
        impossible: why it cannot be; None: nothing speaks against it.
        like: one with fewer slots that held, where more can only help.
        points: its runs, the first seed's first.
        verdict: what they say; None: nothing yet.
        why: they say so.
        projected_usd: its bill by the texts alone; retries, hedges and abandoned calls add to it.
        expected_usd: the same, corrected by what those that ran were off at least.
    """

    def __init__(
        self, configuration: Configuration, ruled_out: Reason | None, projected_usd: float
    ) -> None:
        self.configuration = configuration
        self.impossible = ruled_out
        self.projected_usd = self.expected_usd = projected_usd
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
        """Of its run with the first seed, which all have in common; before it what is expected."""
        return (self.points[0].figures["cost_usd"] or 0.0) if self.points else self.expected_usd

    def mean(self, bound: Bound) -> float:
        """Of a promised figure, over its runs."""
        return fmean(value(point, bound) for point in self.points)

    def seed(self, number: int) -> Task:
        """Its run with the n-th seed, from 0."""
        task = self.configuration.task
        return msgspec.structs.replace(task, seed=task.seed + number)


class Line:
    """Configurations that differ in slots alone, fewest first, if more can only help; or one."""

    def __init__(self, members: Sequence[Candidate]) -> None:
        self._members = members

    @property
    def middle(self) -> Candidate:
        """Whom to run next: the middle of those of whom nothing is known."""
        unknown = [one for one in self._members if one.verdict is None and one.like is None]
        return unknown[len(unknown) // 2]

    def learn(self, one: Candidate) -> None:
        """One of them was judged: it speaks for all on one side of it."""
        at = self._members.index(one)
        if one.holds:
            for other in self._members[at + 1 :]:
                if other.verdict is None:
                    other.like, other.why = one, f"more slots than {one.configuration.label}"
            return
        for other in self._members[:at]:
            if other.verdict is None:
                other.verdict = "out"
                other.why = f"fewer slots than {one.configuration.label}, which is out"


class Search:
    """Candidates and their runs.

    Args:
        configurations: all that may be chosen.
        bounds: every promise.
        sweep: makes runs.
    """

    def __init__(
        self, configurations: Sequence[Configuration], bounds: Sequence[Bound], sweep: Sweep
    ) -> None:
        self._bounds, self._sweep = bounds, sweep
        self.candidates: list[Candidate] = []
        self._lines: dict[int, Line] = {}
        groups: dict[str, list[Candidate]] = {}
        for each in configurations:
            prepared = prepared_for(each.task)
            usd = prepared.projection.cost_usd
            one = Candidate(each, impossible(prepared, bounds), usd)
            self.candidates.append(one)
            if one.impossible is None:
                sound = slots_only_help(prepared, bounds)
                groups.setdefault(_others(each) if sound else f"{each.index}", []).append(one)
        for members in groups.values():
            line = Line(sorted(members, key=lambda one: one.configuration.slots))
            self._lines |= {one.configuration.index: line for one in members}

    def extend(self, some: Sequence[Candidate], runs: int) -> None:
        """Run these until there are so many runs of each, and judge them."""
        missing = [(one, n) for one in some for n in self._next_seeds(one, runs)]
        points = self._sweep([one.seed(n) for one, n in missing])
        for (one, _), point in zip(missing, points, strict=True):
            one.points.append(point)
        for one in some:
            one.verdict, one.why = verdict(one.points, self._bounds)
            if (line := self._lines.get(one.configuration.index)) is not None:
                line.learn(one)
        held = [one for one in self.candidates if one.holds and one.points and one.projected_usd]
        off = min((one.cost_usd / one.projected_usd for one in held), default=1.0)
        for one in self.candidates:
            one.expected_usd = one.projected_usd * off

    def _next_seeds(self, one: Candidate, runs: int) -> list[int]:
        """Whose weather it meets next: the first seed's, then of those left the worst for others.

        So what does not hold is soon out. What is in has met the same seeds in whatever order.
        """
        worse: dict[int, list[float]] = defaultdict(list)
        for other in self.candidates:
            for point in other.points[1:]:
                off = self._miss(point) - self._miss(other.points[0])
                worse[point.seed - other.points[0].seed].append(off)
        done = {point.seed - one.seed(0).seed for point in one.points}
        left = [n for n in range(LEAST if runs <= LEAST else MOST) if n not in done]
        left.sort(key=lambda n: (n > 0, n >= LEAST, -max(worse[n], default=0.0)))
        return left[: max(0, runs - len(one.points))]

    def run_all(self) -> None:
        """Run once whatever may be: all of the frontier is known then."""
        self.extend([one for one in self.candidates if one.impossible is None], 1)

    def winner(self) -> Candidate | None:
        """The cheapest that is in; everything cheaper is out, or too close, when this returns."""
        while (one := next(self._left(), None)) is not None:
            if one.verdict == "in":
                return one
            if one.holds:
                self.extend([one], next(step for step in STEPS if step > len(one.points)))
            else:
                self._probe()
        return None

    def _probe(self) -> None:
        """Run the next few of which nothing is known, or who speak for them."""
        chosen: dict[int, Candidate] = {}
        unknown = [one for one in self.candidates if one.verdict is None and one.like is None]
        for one in islice(cheapest_first(unknown), WAVE):
            probe = self._lines[one.configuration.index].middle
            chosen[probe.configuration.index] = probe
        self.extend(list(chosen.values()), 1)

    def _left(self) -> Iterator[Candidate]:
        """What may still be the answer, the cheapest first."""
        return cheapest_first(
            [
                one
                for one in self.candidates
                if one.verdict != "out" and not (one.verdict == "close" and _spent(one))
            ]
        )

    def next_cheaper(self, best: Candidate) -> Candidate | None:
        """The next cheaper one than the winner, run on a few of the same seeds.

        That is: for the same dollars as much else as can be, but less than the winner takes; or,
        where nothing is as dear as that, fewer dollars.
        """
        # A bill that is not known yet is held against the winner's by what texts say of both.
        per_usd = best.cost_usd / best.projected_usd if best.projected_usd else 1.0
        same, less = [], []
        # As in `cheapest_first`: what is dearer than these was never before the winner.
        least = min(one.cost_usd for one in self.candidates if one.verdict != "out")
        for one in self.candidates:
            usd = one.cost_usd if one.points else one.projected_usd * per_usd
            if one is best or one.impossible is not None:
                continue
            if usd * SAME_DOLLARS < best.cost_usd:
                less.append(one)
            elif usd <= SAME_DOLLARS * least and _takes(one) < _takes(best):
                same.append(one)
        nearest = max(same, key=_takes, default=None)
        nearest = nearest or max(less, key=lambda one: one.cost_usd, default=None)
        if nearest is not None:
            self.extend([nearest], SEEDS)
        return nearest

    def closest(self) -> Candidate | None:
        """Of those that ran, the one whose worst miss is the smallest."""
        ran = [one for one in self.candidates if one.points]
        return min(ran, key=self._worst, default=None)

    def _worst(self, one: Candidate) -> float:
        return max(map(self._miss, one.points))

    def _miss(self, point: Point) -> float:
        return max(excess(point, bound) for bound in self._bounds)


def cheapest_first(found: Sequence[Candidate]) -> Iterator[Candidate]:
    """By dollars; where the bills are the same, by what else they take."""
    left = list(found)
    while left:
        least = min(one.cost_usd for one in left)
        same = [one for one in left if one.cost_usd <= SAME_DOLLARS * least]
        best = min(same, key=_takes)
        yield best
        left.remove(best)


def _takes(one: Candidate) -> tuple[int, int, int, int]:
    return one.configuration.resources


def _spent(one: Candidate) -> bool:
    """Whether it has had all the runs that it gets."""
    return len(one.points) >= MOST


def _others(each: Configuration) -> str:
    """All of a configuration but its slots."""
    scenario = each.scenario
    pipe = msgspec.structs.replace(scenario.pipeline, concurrency=1)
    return repr((scenario.workload, scenario.upstream, pipe))
