"""What a cache gives is what the corpus repeats, and it is shown beside it."""

from pathlib import Path
from typing import Any

import pytest

from harness.experiments.run import prepare_variant, run_one
from harness.scenario.load import load_file

SCENARIO = Path(__file__).parents[1] / "scenarios" / "timeout_crisis.toml"
DATA = Path(__file__).parents[2] / "shared" / "data"
REPEATING = DATA / "reviews_natural_dups_mcauley5core.csv.gz"


def flown(corpus: str, *changes: str) -> dict[str, Any]:
    """A thousand reviews of a corpus through the pipeline with a cache."""
    sets = [f"workload.corpus={corpus}", "pipeline.cache=memory", *changes]
    file = load_file(SCENARIO, sets, "after")
    prepared = prepare_variant(file, "after", SCENARIO.parent)
    run = run_one(prepared, variant="after", expect="pass", engine="virtual", seed=1)
    assert run.report["valid"], run.report["invalid_reasons"]
    return run.report


def test_eight_templates_are_nearly_all_hits() -> None:
    """A thousand cycled templates give 99 % hits, which no real text does."""
    report = flown("templates8")
    assert report["requests"] == 1000
    assert report["cache"]["hit_rate"] >= 0.99
    assert report["cache"]["repeats_in_input"] == pytest.approx(0.992)


def test_reviews_that_differ_are_never_hits() -> None:
    """Where nothing repeats, nothing is a hit."""
    cache = flown("synthetic:electronics")["cache"]
    assert (cache["hit_rate"], cache["repeats_in_input"]) == (0.0, 0.0)


@pytest.mark.skipif(not REPEATING.exists(), reason=f"{REPEATING.name} is not in ../shared/data")
@pytest.mark.parametrize("near", [False, True])
def test_a_corpus_that_repeats_itself(near: bool) -> None:
    """Hits are within a point of the repeats; near ones come on top, with their precision."""
    changes = ["pipeline.near={threshold = 0.8}"] if near else []
    report = flown(str(REPEATING), *changes)
    cache, judged = report["cache"], report["near_hits"]
    repeats = cache["repeats_in_input"]
    assert 0.55 < repeats < 0.65
    exact = cache["hit_rate"] - judged["n"] / report["requests"]
    assert exact == pytest.approx(repeats, abs=0.01)
    assert (judged["n"] > 0) is near
    if near:
        assert judged["right"] + judged["wrong"] == judged["n"]
        assert judged["low"] <= judged["value"] <= judged["high"]
