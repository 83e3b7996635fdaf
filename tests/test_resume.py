"""`harness run --resume`: what was done is kept, on every engine, and a run is only its own."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Harness, in_folder

from harness.pipeline.progress import Meter, Progress
from harness.records import read_jsonl

ONE = ("run", "small.toml", "--variant", "kept", "--json", "out.json")
FIVE = ("--set", "pipeline.budget.calls=5")


@pytest.fixture
def harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Harness:
    """`harness ...` in a folder with `small.toml`."""
    return in_folder(tmp_path, monkeypatch, capsys)


def told(folder: Path) -> Any:
    """The run's JSON."""
    return json.loads((folder / "out.json").read_text())["runs"][0]


@pytest.mark.parametrize("engine", ["virtual", "live"])
def test_a_run_out_of_money_goes_on_with_more(
    harness: Harness, tmp_path: Path, engine: str
) -> None:
    """It ends with 4 and its rows are kept; resumed, the rest is added after them in time."""
    chosen = (*ONE, "--engine", engine)
    assert harness(*chosen, *FIVE).code == 4
    first = told(tmp_path)
    assert (first["ok"], first["rejected"], first["stopped"]) == (5, 15, "budget")
    place = tmp_path / "results" / "runs" / "small" / f"kept-{engine}-1" / "records.jsonl"
    before = [row for row in read_jsonl(place) if row.outcome == "ok"]
    assert harness(*chosen, "--resume").code in {0, 3}  # a busy machine makes live runs INVALID
    report, after = told(tmp_path), read_jsonl(place)
    assert (report["ok"], report["attempts"], report["in_doubt"]) == (20, 20, [])
    assert [row for row in report["invalid_reasons"] if "invariant" in row] == []
    rest = {row.key: row for row in after}
    assert all(rest.pop(row.key).cost_usd == row.cost_usd for row in before)
    pause = max(row.t_end for row in before)
    assert all(row.t_intended >= pause - 1e-6 for row in rest.values())
    assert report["duration_s"] > pause


def test_a_finished_run_has_nothing_left_to_do(harness: Harness, tmp_path: Path) -> None:
    """Resumed, it sends nothing and tells the same."""
    assert harness(*ONE).code == 0
    first = told(tmp_path)
    assert harness(*ONE, "--resume").code == 0
    again = told(tmp_path)
    assert (again["ok"], again["attempts"]) == (20, 20)
    assert again["cost_usd"] == first["cost_usd"]


def test_without_resume_it_begins_anew(harness: Harness, tmp_path: Path) -> None:
    """Nothing of an earlier run is left in a new one."""
    harness(*ONE, *FIVE)
    assert harness(*ONE).code == 0
    assert told(tmp_path)["held_usd"] == 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("--set", "pipeline.retries=1"), "scenario"),
        (("--corpus", "synthetic:toys"), "scenario"),
        (("--seed", "2"), "there is no journal"),
    ],
)
def test_only_the_same_run_is_resumed(
    harness: Harness, change: tuple[str, ...], named: str
) -> None:
    """A run that was changed is refused in one line that says in what."""
    harness(*ONE, *FIVE)
    done = harness(*ONE, *change, "--resume")
    assert (done.code, named in done.err.splitlines()[-1]) == (2, True)


def test_hits_are_hits_after_a_resume_too(harness: Harness, tmp_path: Path) -> None:
    """What an earlier process was answered answers repeats in the next."""
    same = (*ONE, "--corpus", "templates8", "--set", 'pipeline.cache="memory"')
    assert harness(*same, "--set", "pipeline.budget.calls=7").code == 4
    assert harness(*same, "--resume").code == 0
    assert (told(tmp_path)["ok"], told(tmp_path)["attempts"]) == (20, 8)


def test_a_target_and_users_have_no_journal(harness: Harness) -> None:
    """What is no batch of our own pipeline cannot be resumed, and is told so."""
    done = harness(*ONE, "--target", "m:f", "--resume")
    assert (done.code, "--resume: not with --target" in done.err) == (2, True)


def test_the_end_is_foreseen_from_what_is_left(harness: Harness) -> None:
    """A resumed run's progress counts what was done before, but not as work of its own."""
    meter = Meter(40, 10, (seen := list[Progress]()).append)
    meter.skip(20)
    meter.start(0.0)
    for _ in range(20):
        meter.done(1.0)
    assert [(one.batch, one.reviews, one.before) for one in seen] == [(3, 30, 20), (4, 40, 20)]
    harness(*ONE, "--set", "workload.reviews=40", "--set", "pipeline.budget.calls=30")
    done = harness(*ONE, "--set", "workload.reviews=40", "--resume")
    assert [line.split(":")[0] for line in done.err.splitlines() if "Batch" in line] == [
        "Batch 4/4"
    ]
