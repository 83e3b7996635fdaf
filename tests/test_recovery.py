"""How a run took a spike: read from rows made by hand, and from the scenario that shows it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import attempt
from runs import ROOT, flown

from harness.records import Record
from harness.recovery import recovery
from harness.report.table import spike_text

SPIKE_S = (20.0, 30.0)


def second(at: int, *, took_s: float = 0.1, ok: bool = True) -> list[Record]:
    """Ten requests that begin within a second."""
    ended: dict[str, Any] = {} if ok else {"ended_in": "first_token"}
    return [
        attempt(f"r{at}.{n}", since=at + n / 10, spent={"first_token": took_s}, **ended)
        for n in range(10)
    ]


def told(slow: range, *, gone: range = range(0), length: int = 80) -> float | None:
    """Recovery of a run that is slow in some seconds and answers nothing in others."""
    rows = [
        row
        for at in range(length)
        for row in second(at, took_s=1.0 if at in slow else 0.1, ok=at not in gone)
    ]
    found: float | None = recovery(rows, SPIKE_S)["recovery_s"]
    return found


@pytest.mark.parametrize(
    ("slow", "gone", "seconds"),
    [
        (range(0), range(0), 0.0),
        (range(20, 30), range(0), 0.0),
        (range(20, 42), range(0), 12.0),
        (range(0), range(20, 42), 12.0),
        (range(20, 35), range(35, 50), 20.0),
        (range(20, 80), range(0), None),
        (range(0), range(20, 80), None),
        (range(20, 77), range(0), None),  # what is left is shorter than a window
        (range(40, 60), range(0), 30.0),  # a lull, and then it comes again
    ],
)
def test_recovery_is_when_all_is_as_before(slow: range, gone: range, seconds: float | None) -> None:
    """From the first request on from which latency and goodput are within a tenth of before."""
    wanted = None if seconds is None else pytest.approx(seconds, abs=0.6)
    assert told(slow, gone=gone) == wanted


@given(st.integers(20, 70), st.integers(20, 70))
def test_longer_trouble_never_ends_sooner(one: int, other: int) -> None:
    """A run that is slow for longer has not recovered before."""
    sooner, later = (told(range(20, until)) for until in sorted((one, other)))
    assert sooner is not None
    assert later is not None
    assert sooner <= later


def test_a_chance_of_a_few_is_no_trouble() -> None:
    """Where times scatter widely a mean that is off by 14 % is what it was."""
    rows = [
        attempt(f"r{n:04d}", since=n / 10, spent={"first_token": 0.1 if n % 2 else long_s})
        for n in range(800)
        for long_s in [2.3 if n >= 200 else 2.0]
    ]
    assert recovery(rows, SPIKE_S)["recovery_s"] == pytest.approx(0.0, abs=0.2)


def test_users_who_all_wait_are_no_recovery() -> None:
    """A handful that is answered while the others ask nothing does not count."""
    quiet = [row for at in range(30, 50) for row in second(at)[:2]]
    rows = [row for at in range(30) for row in second(at)] + quiet
    rows += [row for at in range(50, 80) for row in second(at)]
    assert recovery(rows, SPIKE_S)["recovery_s"] == pytest.approx(16.5, abs=2.0)


@pytest.mark.parametrize("spike_s", [None, SPIKE_S])
def test_nothing_is_told_of_nothing(spike_s: tuple[float, float] | None) -> None:
    """Without a spike, or without rows, there is no recovery."""
    assert recovery([], spike_s) == {"recovery_s": None, "spike": None}
    assert recovery(second(40), spike_s)["recovery_s"] is None


@pytest.mark.parametrize(
    ("rare", "length", "why"),
    [
        (50, 80, "2 in the second half of the time before"),  # one in 5 s: a window of 250 s
        (5, 38, "come for 7.5 s after the spike, and a window takes 25.0 s"),
        (1, 33, "come for 2.9 s after the spike, and a window takes 5.0 s"),
        (1, 25, "come for 0.0 s after the spike"),
    ],
)
def test_too_few_requests_tell_nothing(rare: int, length: int, why: str) -> None:
    """Of a service that nothing disturbed nobody says that it was never back."""
    rows = [row for at in range(length) for row in second(at)][::rare]
    report = recovery(rows, SPIKE_S)
    assert report["recovery_s"] is None
    assert why in report["spike"]["too_few"]
    assert spike_text([report]) == f"after the spike: {report['spike']['too_few']}"


def test_a_storm_is_told_before_what_cannot_be() -> None:
    """Of several seeds one that was never back outweighs one that has too few requests."""
    slow = [row for at in range(80) for row in second(at, took_s=0.1 if at < 20 else 1.0)]
    storm, short = recovery(slow, SPIKE_S), recovery(second(1), SPIKE_S)
    assert storm["spike"]["too_few"] is None
    assert spike_text([short, storm]).startswith("never back after the spike: 1.0 calls")


@pytest.mark.parametrize(("variant", "ends"), [("retries", False), ("budget", True)])
def test_a_budget_ends_the_storm(variant: str, ends: bool) -> None:
    """Three retries keep the provider's queue full after the spike; a tenth of them does not."""
    shorter = ("workload.arrivals.at_s=6", "workload.arrivals.for_s=3", "workload.duration_s=26")
    run = flown(variant, *shorter, scenario=ROOT / "scenarios" / "spike.toml")
    report, last = run.report, run.report["spike"]["at_last"]
    assert report["valid"], report["invalid_reasons"]
    assert report["spike"]["before"]["goodput"] > 0.95
    assert (report["recovery_s"] is not None) is ends
    assert report["spike"]["too_few"] is None
    assert report["slo"]["passed"] is ends
    assert (last["goodput"] > 0.95, last["attempts"] < 1.2) == (ends, ends)
    assert (last["attempts"] > 3) is not ends
