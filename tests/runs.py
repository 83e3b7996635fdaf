"""Runs of the shipped scenario and of small ones: what the tests of engines and commands share."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.engines.base import Prepared, Target
from harness.experiments.run import Run, prepare_variant, run_one
from harness.records import Record, requests
from harness.scenario.load import load_file

ROOT = Path(__file__).parents[1]
CRISIS = ROOT / "scenarios" / "timeout_crisis.toml"
DATA = ROOT.parent / "shared" / "data"
REAL = DATA / "reviews_test_5k.csv.gz"
REPEATING = DATA / "reviews_natural_dups_mcauley5core.csv.gz"
real_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the real reviews are not part of the project and not beside it"
)


def ready(variant: str, *sets: str, scenario: Path = CRISIS) -> Prepared:
    """A variant with `--set` overrides, ready for an engine."""
    return prepare_variant(load_file(scenario, sets, variant), variant, scenario.parent)


def flown(
    variant: str,
    *sets: str,
    seed: int = 1,
    engine: str = "virtual",
    target: Target | None = None,
    scenario: Path = CRISIS,
) -> Run:
    """A variant with `--set` overrides, run once."""
    prepared = ready(variant, *sets, scenario=scenario)
    return run_one(
        prepared, variant=variant, expect="pass", engine=engine, seed=seed, target=target
    )


def outcomes(records: Sequence[Record]) -> dict[str, str]:
    """Request key -> its final outcome."""
    return {rows[0].key: rows[-1].outcome for rows in requests(records)}
