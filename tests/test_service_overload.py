"""Forty times more than five workers can serve, for ten minutes."""

from collections import Counter
from pathlib import Path

import pytest

from harness.experiments.run import Run, prepare_variant, run_one
from harness.records import Record, requests
from harness.scenario.load import load_file

SCENARIO = Path(__file__).parents[1] / "scenarios" / "overload.toml"
DEADLINE_S = 30.0


def flown(variant: str, *changes: str, engine: str = "virtual") -> Run:
    """One variant of the scenario; the real service on the virtual clock unless told."""
    file = load_file(SCENARIO, list(changes), variant)
    prepared = prepare_variant(file, variant, SCENARIO.parent)
    expect = file.variant(variant).expect
    return run_one(prepared, variant=variant, expect=expect, engine=engine, seed=1)


@pytest.fixture(scope="module")
def useful() -> Run:
    """Ten minutes with the rule of useful depth."""
    return flown("useful")


def ended(run: Run) -> list[Record]:
    """The last row of each request."""
    return [rows[-1] for rows in requests(run.result.records)]


def test_what_can_be_served_is_served(useful: Run) -> None:
    """Five workers at 1.19 s give 4.2 answers a second, whatever is asked of them."""
    report = useful.report
    assert report["valid"], report["invalid_reasons"]
    assert report["slo"]["passed"]
    assert report["requests"] == pytest.approx(99_600, rel=0.01)
    assert report["ok"] / 600 == pytest.approx(4.2, abs=0.25)


def test_nobody_waits_past_the_deadline(useful: Run) -> None:
    """Every request has ended within its 30 s, one way or the other."""
    assert max(row.t_end - row.t_intended for row in ended(useful)) <= DEADLINE_S + 1e-3


def test_refusals_come_early(useful: Run) -> None:
    """A refusal takes no time, and hardly any work is paid for in vain."""
    refused = [row for row in ended(useful) if row.outcome == "rejected"]
    waits = sorted(row.t_end - row.t_intended for row in refused)
    assert len(refused) > 90_000
    assert waits[round(0.99 * len(waits))] < 0.01
    wasted = useful.report["attempts"] - useful.report["ok"]
    assert wasted < 0.05 * useful.report["attempts"]


def test_users_have_fair_shares(useful: Run) -> None:
    """By Jain's index; chance alone leaves 1 / (1 + 1/26) = .96 for 26 answers a user."""
    shares = Counter(row.user for row in ended(useful) if row.outcome == "ok")
    counts = [shares[f"u{n}"] for n in range(100)]
    jain = sum(counts) ** 2 / (len(counts) * sum(n * n for n in counts))
    assert jain > 0.93


def test_without_the_rule_goodput_is_trapped() -> None:
    """A queue that is deeper than useful serves those who have no time left, and pays for it."""
    trapped = flown("trap", "workload.duration_s=120", engine="sim")  # which is equal, and sooner
    report = trapped.report
    assert report["valid"], report["invalid_reasons"]
    assert trapped.as_expected
    # For half a minute those who came first are served in time; then those who have none left.
    late = [row for row in ended(trapped) if row.outcome == "ok" and 30 <= row.t_end < 120]
    assert len(late) / 90 < 3.4
    assert report["attempts"] > 4 * report["ok"]
    assert report["slo"]["passed"] is False
