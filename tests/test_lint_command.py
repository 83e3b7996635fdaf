"""`harness lint`, and the warnings before a run."""

import json
from pathlib import Path

import pytest
from commands import Harness, in_folder
from linting import FINE

from harness.experiments.lint import Warn, lint_lines


def test_what_variants_share_is_told_once() -> None:
    """A line names every variant that it is about."""
    one, other = (Warn(key=key, text="t", advice="a") for key in "xy")
    assert lint_lines({"p": [one], "q": [other, one], "r": []}) == [
        "p, q: x: t. Try: a",
        "q: y: t. Try: a",
    ]


@pytest.fixture
def harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Harness:
    """Return `harness ...` in a folder with the fine scenario."""
    (tmp_path / "mine.toml").write_text(FINE + '[variants.slow]\nexpect = "fail"\n')
    return in_folder(tmp_path, monkeypatch, capsys)


def test_command_tells_and_fails_only_when_strict(harness: Harness) -> None:
    """Warnings are no failure, unless asked to be, and never those of a variant that is to fail."""
    slow = ("lint", "mine.toml", "--set", "pipeline.concurrency=2")
    assert harness("lint", "mine.toml").out == "lint: fine\n"
    done = harness(*slow)
    assert (done.code, done.err) == (0, "")
    assert "batch, slow: slo.duration_s: 100 calls of 1.00 s, 2 at once" in done.out
    codes = [harness(*slow, "--strict", "--variant", name).code for name in ("batch", "slow")]
    assert codes == [1, 0]


def test_command_writes_json(harness: Harness, tmp_path: Path) -> None:
    """Each warning is an object with its variant and rule; with - nothing else is printed."""
    slow = ("lint", "mine.toml", "--variant", "slow", "--set", "pipeline.concurrency=2")
    done = harness(*slow, "--json", "-")
    (row,) = json.loads(done.out)["warnings"]
    assert {name: row[name] for name in ("scenario", "variant", "expect", "rule", "key")} == {
        "scenario": "mine",
        "variant": "slow",
        "expect": "fail",
        "rule": "too_slow",
        "key": "slo.duration_s",
    }
    assert "lint: 1 warning" in done.err
    harness(*slow, "--json", "w.json")
    assert json.loads((tmp_path / "w.json").read_text())["warnings"] == [row]


def test_command_refuses_in_one_line(harness: Harness) -> None:
    """A trace that is not there is a mistake, not a warning."""
    trace = "workload.arrivals={kind='trace', file='t.csv'}"
    done = harness("lint", "mine.toml", "--variant", "arrivals", "--set", trace)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("harness: trace t.csv: no such file")


def test_run_begins_with_the_warnings(harness: Harness) -> None:
    """What the lint says stands before the table."""
    sets = ("--set", "workload.reviews=5", "--set", "pipeline.slot=never")
    out = harness("run", "mine.toml", "--variant", "batch", *sets).out
    line = "lint: batch: pipeline.slot: the semaphore of 5 is never acquired: 5 calls at once."
    assert out.index(line) < out.index("┏")
