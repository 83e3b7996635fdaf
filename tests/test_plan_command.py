"""`harness plan` from outside: its answer, its files, its exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Done, Harness, in_folder
from planning import SMALL

PNG = b"\x89PNG"
GOAL = ("plan", "world.toml", "--goal", "60 reviews in 20 s", "--jobs", "1", "--out", "out")
OVER = ("--over", "pipeline.concurrency=2-6", "--over", "pipeline.barrier=false,true")


@pytest.fixture
def harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Harness:
    """`harness ...` in a folder with the small provider in it."""
    (tmp_path / "world.toml").write_text(SMALL)
    return in_folder(tmp_path, monkeypatch, capsys)


def answer(done: Done) -> Any:
    """The JSON on standard output."""
    return json.loads(done.out)


def test_a_plan_is_found_drawn_and_written(harness: Harness, tmp_path: Path) -> None:
    """The answer holds on the virtual engine, names what binds, and its pictures are there."""
    done = harness(*GOAL, *OVER, "--json", "-")
    told = answer(done)
    assert done.code == 0
    assert told["winner"]["configuration"] == "concurrency=4, barrier=false"
    assert told["binding"] == "concurrency"
    assert told["verified"] == {
        "winner": {"engine": "virtual", "missed": None, "agrees": True},
        "cheaper": told["verified"]["cheaper"],
    }
    assert told["verified"]["cheaper"]["missed"].startswith("duration_s <= 20")
    assert "recommended: concurrency=4, barrier=false" in done.err
    for name in ("capacity.png", "frontier.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(PNG)
    assert json.loads((tmp_path / "out" / "plan.json").read_text()) == told


def test_a_plan_made_again_runs_nothing(harness: Harness, tmp_path: Path) -> None:
    """The second call finds every run kept, adds none, and says the same."""
    first = harness(*GOAL, *OVER, "--json", "-")
    kept = (tmp_path / "out" / "points.jsonl").read_bytes()
    second = harness(*GOAL, *OVER, "--json", "-")
    assert answer(second) == answer(first)
    assert (tmp_path / "out" / "points.jsonl").read_bytes() == kept


def test_an_infeasible_goal_exits_with_1(harness: Harness) -> None:
    """What no configuration can reach is told with the number that makes it so."""
    done = harness(*GOAL[:3], "600 reviews in 60 s", *GOAL[4:], *OVER)
    assert done.code == 1
    assert "infeasible: 600 calls of 1.00 s, 6 at once, take 100 s at least" in done.out


def test_a_goal_that_nothing_reaches_exits_with_1(harness: Harness) -> None:
    """Where runs and not bounds say no, the closest is named, and what would help it."""
    done = harness(*GOAL, "--over", "pipeline.concurrency=3", "--slo", "cost_usd<=0.03")
    assert done.code == 1
    assert "infeasible: the closest is concurrency=3: duration_s <= 20" in done.out
    assert "binding: concurrency" in done.out
    assert "one slot more (4)" in done.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--engine", "live"), "--engine live"),
        (("--jobs", "-1"), "--jobs -1"),
        (("--over", "pipeline.speed=1"), "pipeline.speed=1: unknown key"),
        (("--slo", "quick"), "--slo quick"),
        (("--out", "world.toml"), "--out world.toml"),
        (("--json", "nowhere/plan.json"), "--json nowhere/plan.json"),
    ],
)
def test_bad_input_is_one_line(
    harness: Harness, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    """A mistake is one line and exit code 2, and nothing is written."""
    before = sorted(tmp_path.iterdir())
    done = harness(*GOAL, *options)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert said in done.err
    assert sorted(tmp_path.iterdir()) == before
