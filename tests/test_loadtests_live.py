"""Locust for real: a crisis fails the gate, its cure passes, a starved generator does neither."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[1]
PATIENCE_S = 240.0
SCENARIO = """\
name = "small_crisis"
[workload]
kind = "users"
users = 12
reviews = 200
corpus = "synthetic"
duration_s = 3.0
deadline_s = 1.0
think = { kind = "exponential", mean = 0.3 }
[upstream.profile]
ttft = { kind = "lognormal", mean = 0.25, sigma = 0.3 }
output_tokens = 5
[pipeline]
workers = 12
[slo]
timeout_rate = "<= 0.01"
"latency_s.p95" = "<= 0.9"
[variants.before]
expect = "fail"
[variants.before.pipeline]
workers = 1
queue = { useful_only = false }
[variants.after]
"""


class Ended(NamedTuple):
    """A load test that is over."""

    code: int
    document: dict[str, Any]
    cases: dict[str, str]
    said: str

    @property
    def report(self) -> dict[str, Any]:
        """Of its one run."""
        (run,) = self.document["runs"]
        return dict(run)


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """`locust -f loadtests/users.py` on the small crisis."""
    (folder / "small.toml").write_text(SCENARIO)
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "users.py")]
    command += ["--headless", "--only-summary", "--scenario", str(folder / "small.toml")]
    command += ["--out", str(folder / "out"), "--run-json", str(folder / "run.json")]
    command += ["--junit", str(folder / "junit.xml"), *arguments]
    where = {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, **where},
    )


def ended(folder: Path, running: "subprocess.Popen[str]") -> Ended:
    """Its end, and what it has left; a test that hangs is killed with its children's pipes."""
    try:
        said, _ = running.communicate(timeout=PATIENCE_S)
    finally:
        running.kill()
    assert running.returncode in {0, 1, 3}, said
    (suite,) = ET.fromstring((folder / "junit.xml").read_bytes())  # noqa: S314 - our own
    cases = {str(case.get("name")): next((one.tag for one in case), "") for case in suite}
    document = json.loads((folder / "run.json").read_text())
    return Ended(running.returncode, document, cases, said)


def check_counts(report: dict[str, Any]) -> None:
    """All four of them are the same."""
    sides = report["reconciliation"]["kinds"]["review"]
    users, service, mock = sides["users"], sides["service"], sides["mock"]
    assert sides["locust"] == users["requests"] == service["requests"] == report["requests"]
    assert users["attempts"] == service["attempts"] == mock["attempts"] == report["attempts"]
    assert users["cost_usd"] == pytest.approx(service["cost_usd"])
    assert report["reconciliation"]["differences"] == []


def test_the_cure_passes(tmp_path: Path) -> None:
    """Exit code 0, every case of JUnit passes but what was foretold, and the rows are there."""
    it = ended(tmp_path, start(tmp_path, "--variant", "after", "--predict", "8"))
    report = it.report
    foretold = [one for one in it.cases if one.startswith("prediction")]
    others = {name: state for name, state in it.cases.items() if name not in foretold}
    assert (report["engine"], report["lost"], report["unanswered"]) == ("live", 0, 0)
    check_counts(report)
    assert len(foretold) == 2
    assert [one["n"] for one in it.document["agreement"]] == [8, 8]
    assert (tmp_path / "out" / "after-live-1" / "records.jsonl").exists()
    rows = (tmp_path / "out" / "after-live-1" / "asked.jsonl").read_text().splitlines()
    assert len(rows) == report["requests"]
    if report["valid"]:  # a machine that others use too may be late: that is another test's
        assert report["slo"]["passed"], it.said
        assert len(rows) > 30
        assert set(others.values()) == {""}
        assert it.code == int(any(it.cases[name] for name in foretold))


def test_the_crisis_fails(tmp_path: Path) -> None:
    """One worker for twelve users: time-outs by their cause, and exit code 1 though expected."""
    it = ended(tmp_path, start(tmp_path, "--variant", "before"))
    report = it.report
    assert report["timeout_rate"] > 0.1
    assert sum(report["verdicts"].values()) == report["requests"] - report["ok"]
    check_counts(report)
    assert not report["slo"]["passed"]
    if report["valid"]:
        assert it.cases["timeout_rate <= 0.01"] == "failure"
        assert it.code == 1


def test_a_starved_generator_is_no_false_alarm(tmp_path: Path) -> None:
    """Stopped for half of the time it says that it measured nothing, and skips the promises."""
    running = start(tmp_path, "--variant", "after")
    flying = tmp_path / "out"
    while running.poll() is None and not (flying / "after-live-1").exists():
        running.send_signal(signal.SIGSTOP)
        time.sleep(0.15)
        running.send_signal(signal.SIGCONT)
        time.sleep(0.15)
    it = ended(tmp_path, running)
    assert it.code == 3, it.said
    assert it.cases["certificate"] == "error"
    assert "the generator is starved" in it.said.replace("\n", " ")
    assert it.cases["latency_s.p95 <= 0.9"] == "skipped"
    check_counts(it.report)
