"""A run's figures, each against its definition, and the laws that every run obeys."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import attempt, run_toml, served
from scipy import stats

from harness.invariants import violations
from harness.metrics import (
    Tally,
    accuracy,
    barrier_s,
    cache_figures,
    duration_s,
    quantiles,
    summary,
    time_s,
    wilson,
)
from harness.records import Outcome, Record

OUTCOMES: tuple[Outcome, ...] = ("ok", "timed_out", "failed", "rejected")


def _summary(records: list[Record], *, job_failed: bool = False, **changes: Any) -> dict[str, Any]:
    given = {"baseline_usd_per_m": 1.0, "repeats_in_input": 0.0, **changes}
    return summary(records, job_failed=job_failed, **given)


# One answered at once, one answered by its second attempt, one that timed out, one refused.
MIXED = [
    attempt("a", spent={"first_token": 2.0}, model="m1", prompt_tokens=100, cost_usd=1e-5),
    attempt("b", spent={"first_token": 3.0}, ended_in="first_token", model="m2", cost_usd=5e-5),
    attempt("b", 2, since=4.0, model="m2", t_intended=0.0, prompt_tokens=200, cost_usd=3e-5),
    attempt(
        "c",
        since=0.0,
        spent={"queue": 1.0, "first_token": 9.0},
        ended_in="first_token",
        model="m1",
        prompt_tokens=999,
    ),
    attempt("d", since=1.0, spent={}, outcome="failed", status=429, model="m1"),
]


def test_the_figures_of_a_small_run() -> None:
    """Every figure is what its definition says, worked out by hand."""
    found = _summary(MIXED)
    counts = {name: found[name] for name in ("requests", *OUTCOMES, "answered", "attempts")}
    assert counts == {
        "requests": 4,
        "ok": 2,
        "timed_out": 1,
        "failed": 1,
        "rejected": 0,
        "answered": 2,
        "attempts": 5,
    }
    assert found["duration_s"] == 10.0
    assert found["throughput_per_s"] == 2 / 10
    assert found["success_rate"] == 2 / 4
    assert found["timeout_rate"] == 1 / 4
    assert found["routing"] == {"m1": 0.75, "m2": 0.25}
    assert found["verdicts"] == {"no_first_token": 1, "refused": 1}


def test_latency_is_over_all_outcomes_from_the_intended_start() -> None:
    """Timed-out requests count at full length, retried ones from their first start."""
    found = _summary(MIXED)["latency_s"]
    assert found["max"] == 9.0
    assert found["mean"] == (2.0 + 5.0 + 9.0 + 0.0) / 4
    assert found["p50"] == (2.0 + 5.0) / 2


def test_service_time_is_of_attempts_from_the_send() -> None:
    """Backoff, queue and slot are no part of it."""
    found = _summary(MIXED)["service_s"]
    assert found["mean"] == pytest.approx((2.0 + 3.0 + 1.0 + 9.0 + 0.0) / 5)


def test_money_counts_every_attempt_and_the_baseline_each_answer_once() -> None:
    """An abandoned attempt is paid for; without routing the same answers cost the baseline."""
    found = _summary(MIXED, baseline_usd_per_m=1.0)
    assert found["cost_usd"] == pytest.approx(9e-5)
    assert found["baseline_cost_usd"] == pytest.approx(300e-6)
    assert found["cost_reduction"] == pytest.approx(0.7)


def test_a_run_dearer_than_the_baseline_has_a_negative_reduction() -> None:
    """The sign says which way it went."""
    assert _summary(MIXED, baseline_usd_per_m=0.1)["cost_reduction"] == pytest.approx(-2.0)


@given(st.lists(st.tuples(st.sampled_from(OUTCOMES), st.integers(1, 4)), max_size=30))
def test_requests_are_conserved(fates: list[tuple[Outcome, int]]) -> None:
    """Submitted is ok + failed + timed out + rejected, attempts are at least requests."""
    rows = [
        attempt(f"r{n}", number, since=10.0 * number, outcome=outcome if number == last else "ok")
        for n, (outcome, last) in enumerate(fates)
        for number in range(1, last + 1)
    ]
    found = _summary(rows)
    assert found["requests"] == len(fates) == sum(found[name] for name in OUTCOMES)
    assert {name: found[name] for name in OUTCOMES} == {
        name: sum(outcome == name for outcome, _ in fates) for name in OUTCOMES
    }
    assert found["attempts"] == len(rows) >= found["requests"]
    assert sum(found["verdicts"].values()) == found["requests"] - found["ok"]


@given(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=30))
def test_a_job_past_its_deadline_hands_over_nothing(outcomes: list[Outcome]) -> None:
    """Then all timed out, none is ok, and what was answered all the same is told apart."""
    rows = [attempt(f"r{n}", outcome=outcome) for n, outcome in enumerate(outcomes)]
    found = _summary(rows, job_failed=True)
    assert (found["ok"], found["failed"], found["rejected"]) == (0, 0, 0)
    assert found["timed_out"] == len(outcomes)
    assert (found["timeout_rate"], found["success_rate"], found["throughput_per_s"]) == (1, 0, 0)
    assert found["answered"] == outcomes.count("ok") == found["verdicts"].get("job_deadline", 0)
    assert sum(found["verdicts"].values()) == len(outcomes)


def test_a_run_without_rows_has_figures() -> None:
    """Nothing divides by zero, and every figure is there and finite."""
    found = _summary([])
    assert found.keys() == _summary(MIXED).keys()
    numbers = [value for value in found.values() if isinstance(value, int | float)]
    assert all(math.isfinite(number) for number in numbers)
    assert (found["requests"], found["throughput_per_s"], found["latency_s"]["p99"]) == (0, 0, 0)


def test_a_run_of_no_duration_has_no_throughput() -> None:
    """One request that ended the moment it began gives no infinity."""
    found = _summary([attempt(spent={})])
    assert (found["ok"], found["duration_s"], found["throughput_per_s"]) == (1, 0.0, 0.0)


def test_a_run_that_only_failed_has_no_baseline() -> None:
    """Without an answer there are no tokens to price, so nothing is said of a reduction."""
    found = _summary([attempt(ended_in="first_token", prompt_tokens=9, cost_usd=0.1)])
    assert (found["baseline_cost_usd"], found["cost_reduction"]) == (0.0, 0.0)


def test_duration_is_from_the_first_intended_start_to_the_last_end() -> None:
    """Not from the first row, nor to the last."""
    rows = [
        attempt("b", since=5.0),
        attempt("a", since=1.0, spent={"queue": 1.0, "first_token": 9.0}),
        attempt("c", since=6.0),
    ]
    assert duration_s(rows) == 9.0
    assert duration_s([]) == 0.0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_quantiles_lie_between_the_least_and_the_greatest(values: list[float]) -> None:
    """They rise with their rank and stay inside the data."""
    found = quantiles(values)
    ranks = [min(values), *(found[name] for name in ("p50", "p90", "p95", "p99", "max"))]
    assert all(b >= a or b == pytest.approx(a) for a, b in pairwise(ranks))
    assert found["max"] == max(values)
    assert found["mean"] == pytest.approx(sum(values) / len(values))


def test_quantiles_interpolate() -> None:
    """Of 0 to 100 each is its own rank; of nothing all are 0."""
    found = quantiles(list(map(float, range(101))))
    expected = {"mean": 50.0, "p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
    assert found == pytest.approx(expected)
    assert quantiles([]) == dict.fromkeys(expected, 0.0)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_what_scipy_says(counts: tuple[int, int]) -> None:
    """The interval agrees with another implementation of it, at the edges too."""
    expected = stats.binomtest(*counts).proportion_ci(method="wilson")
    assert wilson(*counts) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_wilson_of_nothing_says_nothing() -> None:
    """Without a case every share is possible; at the edges the interval ends exactly there."""
    assert wilson(0, 0) == (0.0, 1.0)
    assert (wilson(0, 9)[0], wilson(9, 9)[1]) == (0.0, 1.0)
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)


def test_accuracy_judges_only_what_has_a_known_truth() -> None:
    """An answer without a label is wrong; one without a known truth is not judged."""
    answers = {"a": "positive", "b": "negative", "c": None, "d": "positive"}
    found = accuracy(answers, {"a": "positive", "b": "positive", "c": "negative", "z": "positive"})
    low, high = wilson(1, 3)
    assert found == {"value": 1 / 3, "low": low, "high": high, "n": 3}


def test_accuracy_of_nothing_has_no_value() -> None:
    """There is no share of nothing, and no certainty about it."""
    assert accuracy({"a": "positive"}, {}) == {"value": None, "low": 0.0, "high": 1.0, "n": 0}


def test_cache_figures_count_requests_that_were_looked_up() -> None:
    """Hits are shares of lookups; what never got to the cache is none."""
    rows = [
        attempt("a", cache="miss"),
        attempt("b", 0, cache="hit", t_sent=None),
        attempt("c", 0, cache="hit", t_sent=None),
        attempt("d", cache="miss", ended_in="first_token"),
        attempt("d", 2, since=2.0, cache="miss"),
        attempt("e", 0, ended_in="queue"),
    ]
    expected = {"lookups": 4, "hits": 2, "hit_rate": 0.5, "repeats_in_input": 0.25}
    assert cache_figures(Tally(rows), 0.25) == expected
    assert _summary(rows)["attempts"] == 3


def test_a_hit_costs_nothing_and_counts_in_the_baseline() -> None:
    """What the cache saved would have been paid for without it."""
    rows = [attempt("a", 0, cache="hit", prompt_tokens=500, t_sent=None)]
    found = _summary(rows, baseline_usd_per_m=2.0)
    assert (found["cost_usd"], found["baseline_cost_usd"]) == (0.0, 0.001)
    assert (found["cost_reduction"], found["cache"]["hit_rate"]) == (1.0, 1.0)


def test_without_a_lookup_there_is_no_hit_rate() -> None:
    """A pipeline without a cache has none of its figures."""
    expected = {"lookups": 0, "hits": 0, "hit_rate": 0.0, "repeats_in_input": 0.5}
    assert cache_figures(Tally(MIXED), 0.5) == expected


def test_the_barrier_is_the_wait_for_the_slowest_of_ones_wave() -> None:
    """Each request waits from its own end to its wave's; the slowest does not."""
    rows = served([1.0, 3.0, 2.0, 2.0], slots=2, wave=2)
    found = barrier_s(Tally(rows).requests)
    assert found == {"r0000": 2.0, "r0001": 0.0, "r0002": 0.0, "r0003": 0.0}
    assert time_s(Tally(rows).requests)["barrier"] == 0.5


def test_nothing_waits_behind_a_barrier_in_a_single_wave() -> None:
    """Where everything is handed out at once, one that is done waits for nobody."""
    found = barrier_s(Tally(served([1.0, 3.0, 2.0, 2.0], slots=2)).requests)
    assert set(found.values()) == {0.0}


def test_what_was_never_let_in_is_in_no_wave() -> None:
    """Requests that the job's deadline met in line do not prolong the first wave."""
    late = attempt("r9", 0, spent={"queue": 600.0}, ended_in="queue", error="job_deadline")
    rows = [*served([1.0, 3.0, 2.0, 2.0], slots=2, wave=2), late]
    found = barrier_s(Tally(rows).requests)
    assert found == {"r0000": 2.0, "r0001": 0.0, "r0002": 0.0, "r0003": 0.0, "r9": 0.0}


def test_time_by_stage_adds_up_to_mean_time() -> None:
    """The stages' means are those of whole requests, backoff included."""
    found = time_s(Tally(MIXED).requests)
    del found["barrier"]
    assert sum(found.values()) == pytest.approx((2.0 + 5.0 + 10.0 + 0.0) / 4)
    assert found["backoff"] == 1.0 / 4
    assert found["queue"] == 1.0 / 4


def test_a_real_run_obeys_the_laws(tmp_path: Path) -> None:
    """Little's law and conservation hold, and nothing is lost, of a storm behind a barrier."""
    text = """
[upstream]
profile = { ttft = { kind = "lognormal", mean = 1.19, sigma = 0.65 } }
faults.hangs = { kind = "hang_before_headers", rate = 0.1 }
[pipeline]
attempt_timeout_s = 5.0
retries = 1
barrier = true
"""
    result, ledger = run_toml(tmp_path, text, reviews=100)
    found = _summary(result.records)
    keys = {row.key for row in ledger}
    assert violations(result.records, keys) == []
    assert found["requests"] == 100 == found["ok"] + found["timed_out"]
    assert found["attempts"] == len(ledger)
    spent = found["time_s"]
    in_slots = sum(seconds for stage, seconds in spent.items() if stage not in {"queue", "barrier"})
    assert found["latency_s"]["mean"] == pytest.approx(in_slots)
    # Little: five slots hold five requests at most, on average and at any time.
    assert in_slots * found["requests"] / found["duration_s"] <= 5


BROKEN = [
    ("2 requests lost, first c", [attempt("a")], ["a", "d", "c"]),
    ("1 requests nobody submitted, first b", [attempt("a"), attempt("b")], ["a"]),
    ("a attempt 1 counted 2 times", [attempt("a"), attempt("a")], ["a"]),
    ("a went on after it had succeeded", [attempt("a"), attempt("a", 2, since=2.0)], ["a"]),
    ("a attempt 1: times run backwards", [attempt("a", t_sent=0.5, t_connected=0.6)], ["a"]),
    ("a attempt 1: times run backwards", [attempt("a", t_end=0.5)], ["a"]),
    ("a attempt 1: negative cost -1.0", [attempt("a", cost_usd=-1.0)], ["a"]),
]


@pytest.mark.parametrize(("what", "records", "keys"), BROKEN)
def test_a_broken_law_is_named(what: str, records: list[Record], keys: list[str]) -> None:
    """What is wrong with a run's rows is said in words, with the request."""
    assert what in violations(records, keys)


def test_a_run_that_was_broken_off_may_lack_requests() -> None:
    """Lost requests are a fault of complete runs only."""
    assert violations([attempt("a")], ["a", "b"], complete=False) == []
