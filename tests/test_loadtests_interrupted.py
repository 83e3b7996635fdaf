"""Ctrl-C and SIGTERM at every moment of a load test: no traceback, and nothing is left."""

import json
import os
import signal
from pathlib import Path

from commands import mentioning
from locusts import SMALL, Locust, free_port, locust

INTERRUPTED = 130


def given(folder: Path) -> list[str]:
    """Options of the small scenario."""
    (folder / "small.toml").write_text(SMALL)
    return ["--scenario", str(folder / "small.toml"), "--out", str(folder / "out")]


def ended(folder: Path, running: Locust, *signals: signal.Signals) -> int:
    """Its exit code after these signals; whatever it started is gone, its files as well."""
    for one in signals:
        running.running.send_signal(one)
    code = running.code()
    assert "Traceback" not in running.said
    assert mentioning(str(folder)) == []
    assert [path for pattern in ("loadtest-*", "harness-*") for path in folder.glob(pattern)] == []
    return code


def test_ctrl_c_while_the_scenario_is_read(tmp_path: Path) -> None:
    """Before anything has been started there is nothing to say."""
    scenario = tmp_path / "slow.toml"
    os.mkfifo(scenario)
    with (
        locust(tmp_path, "early", "--headless", "--scenario", str(scenario)) as running,
        scenario.open("w"),  # as soon as it reads, for which it waits
    ):
        assert ended(tmp_path, running, signal.SIGINT) == INTERRUPTED
    assert running.said == ""


def test_ctrl_c_while_a_master_waits_for_workers(tmp_path: Path) -> None:
    """It says so in one line, ends the stack, and lets the worker go that has come."""
    port = str(free_port())
    master = ["--headless", "--master", "--expect-workers", "2", "--master-bind-port", port]
    with (
        locust(tmp_path, "master", *master, *given(tmp_path)) as running,
        locust(tmp_path, "worker", "--worker", "--master-port", port) as worker,
    ):
        running.until("reported as ready")
        running.running.send_signal(signal.SIGINT)
        assert worker.code() == 0, worker.said
        assert ended(tmp_path, running) == INTERRUPTED
    assert running.said.count("interrupted before the test began\n") == 1


def test_ctrl_c_before_the_first_test_of_a_web_page(tmp_path: Path) -> None:
    """What has never begun is not judged, and no failure."""
    web = ["--web-host", "127.0.0.1", "--web-port", str(free_port())]
    with locust(tmp_path, "web", *web, *given(tmp_path)) as running:
        running.until("the mock's switches")
        assert ended(tmp_path, running, signal.SIGINT) == 0


def test_ctrl_c_during_a_prediction(tmp_path: Path) -> None:
    """The test is over, and judged without it."""
    options = ["--headless", "-t", "2s", "--predict", "5000"]
    with locust(tmp_path, "predicting", *options, *given(tmp_path)) as running:
        running.until("predicting: 5000 runs")
        assert ended(tmp_path, running, signal.SIGINT) == INTERRUPTED
    assert "reconciliation" in running.said


def test_sigterm_twice_under_a_shape(tmp_path: Path) -> None:
    """What was done is judged; and that many leave at once is no high rate of users who come."""
    shape = ["--headless", "--shape", "spike:base=2,factor=60,at=1,for=2,after=60"]
    slow = ["--set", "workload.think=5.0"]
    with locust(tmp_path, "shape", *shape, *slow, *given(tmp_path)) as running:
        running.until(r"updating to 2 users at 118\.00 spawn rate")
        running.until("All users spawned: .*2 total users")
        assert ended(tmp_path, running, signal.SIGTERM, signal.SIGTERM) == INTERRUPTED
    assert "spawn rate is very high" not in running.said
    assert "interrupted" in running.said
    found = json.loads(next(tmp_path.rglob("run.json")).read_text())
    assert found.get("run", found)["stopped"] == "interrupted"
