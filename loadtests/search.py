"""The most users for whom a scenario's promises hold: doubling, then bisection. Pure.

Theory of operation. Levels are doubled until one fails, then the gap between the best that passed
and the least that failed is halved until it is small. A level is judged by what ended while it was
held, without the time that it took to warm up: in a steady state these are fair samples, and in an
overload they get slower from level to level, which is what fails it. A generator that sends late
fails a level too: whatever then holds, it is not for so many users.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.attribution import STAGES
from harness.engines.certificate import SENT_BOUND_S
from harness.metrics import quantiles
from harness.report.text import rate
from harness.scenario.slo import Bound, parse_slo
from loadtests.sight import ABUSE, Asked

JUDGED = ("latency_s", "latency_ok_s", "success_rate", "timeout_rate")
"""Promises that a level can keep; the others are of a whole run."""
BUSY = 0.9
"""Share of a core from which on the next request waits for it."""
CROWDED = 0.85
"""Share of all cores from which on processes wait for each other, though none fills a core."""
MACHINE = "machine"
"""The name of the share of all cores, among those of the processes."""

_LATE = "the generator is late"
_PLACES = {
    "queue": "the service's workers: requests wait for one",
    "limiter": "the limit per user",
    "slot": "the slots for calls to the provider",
    "backoff": "the provider, which refuses: requests wait to try again",
    "connect": "connections to the provider",
    "first_token": "the provider",
    "body": "the provider, as it writes",
}


class Seeking:
    """Which level to try next.

    Args:
        start: the first.
        up_to: none above it.
        within: the answer is known when no more than this share of it, and one user, is open.

    Attributes:
        level: to be tried now; None: the answer is known.
        answer: the highest that passed; 0: none did.
    """

    def __init__(self, start: int, up_to: int, within: float) -> None:
        self.level: int | None = start
        self.answer = 0
        self._up_to, self._within = up_to, within
        self._failed: int | None = None

    def tell(self, *, passed: bool) -> None:
        """What became of the level."""
        if self.level is None:
            raise ValueError("the answer is known: there is no level")
        if passed:
            self.answer = self.level
        else:
            self._failed = self.level
        self.level = self._next()

    def _next(self) -> int | None:
        if self._failed is None:
            return min(2 * self.answer, self._up_to) if self.answer < self._up_to else None
        if self._failed - self.answer <= max(1.0, self._within * self.answer):
            return None
        return (self.answer + self._failed) // 2


class Tried(NamedTuple):
    """A level that was held.

    Attributes:
        users: how many there were.
        requests: that ended while it counted.
        per_s: of them a second that were answered.
        latency_s: p95, from the intended start, over all outcomes.
        missed: what it fails by; empty: it passed.
        busy: process -> share of a core that it used; `machine` -> share of all cores in use.
        stages: mean seconds of a request in each, as the service tells.
    """

    users: int
    requests: int
    per_s: float
    latency_s: float
    missed: tuple[str, ...]
    busy: Mapping[str, float]
    stages: Mapping[str, float]

    def told(self) -> str:
        """For a person."""
        said = "; ".join(self.missed) or "the promises hold"
        figures = f"{self.requests:,} requests, {rate(self.per_s)} ok, p95 {self.latency_s:.2f} s"
        return f"{self.users:,} users: {figures}: {said}"


class Found(NamedTuple):
    """What a search has come to.

    Attributes:
        users: the most for whom the promises hold; 0: not even the fewest that were tried.
        binds: what keeps it from being more.
        levels: that were tried, in order.
    """

    users: int
    binds: str
    levels: tuple[Tried, ...]

    def report(self) -> dict[str, Any]:
        """As JSON has it."""
        levels = [{**one._asdict(), "passed": not one.missed} for one in self.levels]
        return {"users": self.users, "binds": self.binds, "levels": levels}

    def check(self) -> dict[str, Any]:
        """The one promise that a search keeps: that there is an answer."""
        found = self.users > 0
        return {"metric": "search.users", "bound": ">= 1", "value": self.users, "passed": found}


def promises(slo: Mapping[str, str]) -> tuple[Bound, ...]:
    """Those of a scenario's promises that a level is judged by."""
    return tuple(one for one in parse_slo(slo) if one.metric.partition(".")[0] in JUDGED)


def tried(
    users: int,
    asked: Sequence[Asked],
    counts_s: float,
    bounds: Sequence[Bound],
    busy: Mapping[str, float],
) -> Tried:
    """What a level was like.

    Args:
        users: how many there were.
        asked: requests that ended while the level counted; abusers' only tell if it was late.
        counts_s: for how long it did.
        bounds: to be kept, see `promises`.
        busy: process -> share of a core that it used; `machine` -> share of all cores in use.
    """
    late_s = quantiles([one.t_sent - one.t_intended for one in asked])["p99"]
    asked = [one for one in asked if one.kind != ABUSE]
    answered = [one for one in asked if one.outcome == "ok"]
    seen = quantiles([one.t_end - one.t_intended for one in asked])
    n = max(len(asked), 1)
    figures: dict[str, float] = {
        **{f"latency_s.{name}": value for name, value in seen.items()},
        **{
            f"latency_ok_s.{name}": value
            for name, value in quantiles([one.t_end - one.t_intended for one in answered]).items()
        },
        "success_rate": len(answered) / n,
        "timeout_rate": sum(one.outcome == "timed_out" for one in asked) / n,
    }
    missed = [
        f"{one.metric} {one.op} {one.limit:g} ({figures[one.metric]:.4g})"
        for one in bounds
        if not one.holds(figures[one.metric])
    ]
    if late_s > SENT_BOUND_S:
        missed.append(f"{_LATE}: p99 {late_s * 1000:.0f} ms")
    return Tried(
        users=users,
        requests=len(asked),
        per_s=len(answered) / counts_s,
        latency_s=seen["p95"],
        missed=tuple(missed if asked else ["nothing was answered"]),
        busy=busy,
        stages=_means(asked),
    )


def binding(levels: Sequence[Tried]) -> str:
    """What keeps more users from being served: cores that are busy, or the stage that grew most.

    Of the lowest level that failed, against the highest that passed below it.
    """
    failed = min((one for one in levels if one.missed), key=lambda one: one.users, default=None)
    if failed is None:
        return "nothing that was tried: the promises hold for as many as were asked for"
    own = {name: share for name, share in failed.busy.items() if name != MACHINE}
    name = max(own, key=lambda one: own[one], default="")
    if name and own[name] >= BUSY:
        return f"one core of this machine: the {name} uses {own[name]:.0%} of it"
    if any(why.startswith(_LATE) for why in failed.missed):
        if (share := failed.busy.get(MACHINE, 0.0)) >= CROWDED:
            each = ", ".join(f"{name} {used:.0%}" for name, used in own.items())
            return f"this machine: its cores are {share:.0%} busy ({each} of one core)"
        return "the generator: it sends late, and none of its cores seems to be full"
    passed = [one for one in levels if not one.missed and one.users < failed.users]
    before = max(passed, key=lambda one: one.users).stages if passed else {}
    grown = {name: failed.stages.get(name, 0.0) - before.get(name, 0.0) for name in STAGES}
    worst = max(grown, key=lambda name: grown[name])
    if grown[worst] <= 0:
        return "unknown: no core is busy, and no stage of a request takes longer than before"
    return f"{_PLACES[worst]} (+{grown[worst]:.2f} s a request)"


def _means(asked: Sequence[Asked]) -> dict[str, float]:
    if not asked:
        return {}
    return {name: sum(one.times_s.get(name, 0.0) for one in asked) / len(asked) for name in STAGES}
