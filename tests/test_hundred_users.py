"""A hundred users are served as one is."""

from pathlib import Path
from typing import Any

from harness.experiments.run import prepare_variant, run_one
from harness.scenario.load import load_file

SCENARIO = Path(__file__).parents[1] / "scenarios" / "hundred_users.toml"


def flown(variant: str) -> dict[str, Any]:
    """One variant on the virtual clock."""
    file = load_file(SCENARIO, [], variant)
    prepared = prepare_variant(file, variant, SCENARIO.parent)
    run = run_one(prepared, variant=variant, expect="pass", engine="virtual", seed=1)
    assert run.report["valid"], run.report["invalid_reasons"]
    assert run.as_expected
    return run.report


def test_a_hundred_users_wait_no_longer_than_one() -> None:
    """The 95th percentile with a hundred users is at most a tenth over that with one."""
    hundred, one = flown("hundred"), flown("one")
    assert min(hundred["ok"], one["ok"]) > 4_500
    assert hundred["latency_s"]["p95"] <= 1.1 * one["latency_s"]["p95"]
