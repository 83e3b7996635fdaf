"""The search for the most users: which levels it tries, how it judges one, and what it blames."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.search import Seeking, Tried, binding, promises, tried
from loadtests.sight import Asked

SLO = {"latency_s.p95": "<= 2", "success_rate": ">= 0.99", "throughput_per_s": ">= 400"}


def sought(limit: int, *, start: int = 10, up_to: int = 10_000, within: float = 0.1) -> list[int]:
    """The levels that are tried where up to `limit` users are served, and the answer."""
    seeking = Seeking(start, up_to, within)
    levels = []
    while (level := seeking.level) is not None:
        levels.append(level)
        seeking.tell(passed=level <= limit)
    return [*levels, seeking.answer]


@pytest.mark.parametrize(
    ("limit", "up_to", "levels"),
    [
        (100, 10_000, [10, 20, 40, 80, 160, 120, 100, 110, 100]),
        (35, 10_000, [10, 20, 40, 30, 35, 37, 35]),
        (10_000, 50, [10, 20, 40, 50, 50]),
        (3, 10_000, [10, 5, 2, 3, 4, 3]),
        (0, 10_000, [10, 5, 2, 1, 0]),
    ],
)
def test_levels_are_doubled_then_halved(limit: int, up_to: int, levels: list[int]) -> None:
    """Up to the first that fails, then into the gap, and down where the first one fails."""
    assert sought(limit, up_to=up_to) == levels


@given(st.integers(0, 20_000), st.integers(1, 500), st.floats(0.01, 1))
def test_the_answer_is_as_near_as_promised(limit: int, start: int, within: float) -> None:
    """It is never more than what is served, and what was not tried above it is within its share."""
    *levels, answer = sought(limit, start=start, within=within)
    truth = min(limit, 10_000)
    assert answer <= truth <= answer + max(1.0, within * answer)
    assert len(levels) <= 2 + 2 * math.log2(20_000)
    assert len(set(levels)) == len(levels)


def test_a_known_answer_asks_for_no_level() -> None:
    """Whoever goes on telling has not looked."""
    seeking = Seeking(1, 1, 0.1)
    seeking.tell(passed=True)
    with pytest.raises(ValueError, match="answer is known"):
        seeking.tell(passed=True)


def asked(n: int, *, took_s: float = 1.0, late_s: float = 0.0, **more: Any) -> Asked:
    """One request."""
    fields = {"status": 200, "outcome": "ok", **more}
    due_s = n / 10
    return Asked(f"u{n}.0", f"u{n}", "review", due_s, due_s + late_s, due_s + took_s, **fields)


def held(rows: list[Asked], **busy: float) -> Tried:
    """A level of a hundred users that counted for ten seconds."""
    return tried(100, rows, 10.0, promises(SLO), busy)


def test_a_level_is_judged_by_what_each_request_met() -> None:
    """Promises on the whole run's speed are none that a level could keep."""
    level = held([asked(n) for n in range(100)])
    assert (level.requests, level.per_s, level.missed) == (100, 10.0, ())
    assert level.latency_s == pytest.approx(1.0)
    assert level.told() == "100 users: 100 requests, 10.0/s ok, p95 1.00 s: the promises hold"


def test_a_level_fails_by_what_it_misses() -> None:
    """Slow answers, no answers, none at all, or a generator that sends late."""
    slow = held([asked(n, took_s=3.0) for n in range(100)])
    assert slow.missed == ("latency_s.p95 <= 2 (3)",)
    refused = [asked(n, status=503, outcome="rejected") for n in range(2)]
    some = held([*refused, *(asked(n) for n in range(2, 100))])
    assert some.missed == ("success_rate >= 0.99 (0.98)",)
    assert held([]).missed == ("nothing was answered",)
    late = held([asked(n, late_s=0.2 if n > 90 else 0.0) for n in range(100)])
    assert late.missed == ("the generator is late: p99 200 ms",)


def test_an_abusers_refusals_fail_no_level() -> None:
    """They are no part of what is promised; what their lateness tells of the generator counts."""
    fine = [asked(n) for n in range(50)]
    gone: dict[str, Any] = {"status": 429, "outcome": "rejected"}
    refused = [asked(n, **gone)._replace(kind="abuse") for n in range(50)]
    assert held(fine + refused) == held(fine)
    late = [asked(n, late_s=9.0, **gone)._replace(kind="abuse") for n in range(50)]
    assert held(fine + late).missed


def level(users: int, missed: bool, *, busy: float = 0.2, **stages: float) -> Tried:
    """A level by what it was like."""
    why = ("latency",) if missed else ()
    return Tried(users, 100, 10.0, 1.0, why, {"service": busy, "mock": 0.1}, stages)


def test_what_binds_is_the_core_or_the_stage_that_grew() -> None:
    """Of the lowest level that failed, against the best that passed below it."""
    fine = level(40, missed=False, queue=0.1, first_token=1.2)
    full = level(80, missed=True, queue=3.0, first_token=1.3)
    assert binding([fine, full]).startswith("the service's workers: requests wait for one (+2.90 s")
    slow = level(160, missed=True, queue=3.0, first_token=9.0)
    assert binding([fine, slow, full]) == binding([fine, full])
    assert binding([fine, slow]).startswith("the provider (+7.80 s")
    worn = level(80, missed=True, busy=0.97, queue=3.0)
    assert binding([fine, worn]) == "one core of this machine: the service uses 97% of it"
    late = held([asked(n, late_s=0.2) for n in range(100)], service=0.3)
    assert binding([fine, late]).startswith("the generator: it sends late")
    shares = {"service": 0.86, "mock": 0.3, "machine": 0.92}
    assert binding([fine, late._replace(busy=shares)]) == (
        "this machine: its cores are 92% busy (service 86%, mock 30% of one core)"
    )
    assert binding([fine, full._replace(busy=shares)]) == binding([fine, full])
    assert binding([fine]).startswith("nothing that was tried")
    assert binding([level(10, missed=True)]).startswith("unknown")
