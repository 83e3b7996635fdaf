"""`locust -f loadtests/users.py`: users of every kind, mistakes, and an end that leaves nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from commands import files, mentioning
from locusts import SMALL, USERS, free_port, locust
from service_process import service_process

from loadtests.pages import metrics_of, requests_counted

MIXED = SMALL.replace("workers = 20", "workers = 40\nrate_limit = 30").replace(
    "deadline_s = 5",
    "deadline_s = 5\nmix = { reviewer = 0.4, batch = 0.2, stream = 0.2, abuser = 0.2, "
    "batch_reviews = 3, poll_s = 0.2, abuser_per_s = 10 }",
)


def results(folder: Path) -> dict[str, Any]:
    """The run that was written down."""
    found = json.loads((folder / "out" / "base-live-1" / "run.json").read_text())
    return dict(found.get("run", found))


def test_users_of_every_kind_are_counted_alike(tmp_path: Path) -> None:
    """Users, service and mock have the same calls and dollars of each; an abuser is refused."""
    scenario = tmp_path / "mixed.toml"
    scenario.write_text(MIXED)
    options = ["--scenario", str(scenario), "--out", str(tmp_path / "out"), "-t", "6s"]
    with locust(tmp_path, "alone", "--headless", "--only-summary", *options) as running:
        code = running.code()
    assert code in {0, 1, 3}, running.said
    counted = results(tmp_path)["reconciliation"]
    assert counted["differences"] == []
    assert counted["lost"] == []
    assert set(counted["kinds"]) == {"review", "batch", "stream", "abuse"}
    assert all(kind["users"]["attempts"] > 0 for kind in counted["kinds"].values())
    lines = next(tmp_path.rglob("asked.jsonl")).read_text().splitlines()
    asked = [json.loads(line) for line in lines]
    refused = {one["kind"] for one in asked if one["status"] == 429}
    assert refused == {"abuse"}
    assert "GreenletExit" not in running.said
    for row in ("stream: time to first token", "stream: time between tokens", "queue wait"):
        assert f"PHASE    {row}" in running.said


def test_two_tests_of_one_service_are_two(tmp_path: Path) -> None:
    """Neither is answered with what the other has paid for: the service counts all requests."""
    scenario = tmp_path / "small.toml"
    scenario.write_text(SMALL)
    given = ["--headless", "--only-summary", "--scenario", str(scenario), "-u", "5", "-t", "3s"]
    with ExitStack() as held:
        folder = tmp_path / "served"
        folder.mkdir()
        service = held.enter_context(service_process(folder, str(scenario)))
        given += ["--host", service.url]
        both = [
            held.enter_context(locust(tmp_path, name, *given, "--out", str(tmp_path / name)))
            for name in ("one", "two")
        ]
        assert {one.code() for one in both} <= {0, 3}, both[0].said + both[1].said
        counted = requests_counted(metrics_of(service.url))
    runs = [json.loads(one.read_text()) for one in tmp_path.rglob("run.json")]
    assert counted == sum(one.get("run", one)["ok"] for one in runs) > 0


def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """Whatever is wrong is told in a line before anything starts; no file and no child is left."""
    scenario = tmp_path / "small.toml"
    scenario.write_text(SMALL)
    given = ["--headless", "--scenario", str(scenario)]
    with ExitStack() as held:
        taken = held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        closed = socket.create_server(("127.0.0.1", 0))
        gone = closed.getsockname()[1]
        closed.close()
        mistakes = {
            "gone.toml": ["--headless", "--scenario", "gone.toml"],
            "unknown variant 'x'": [*given, "--variant", "x"],
            "workload.user": [*given, "--set", "workload.user=3"],
            "-u 0: must be more than 0": [*given, "-u", "0"],
            "give a higher -r": [*given, "-u", "100", "-r", "1", "-t", "9s"],
            f"--service-port {taken}": [*given, "--service-port", str(taken)],
            f"--web-port {taken}": [*given[1:], "--web-host", "127.0.0.1", "-P", str(taken)],
            "cannot be reached": [*given, "--host", f"http://127.0.0.1:{gone}"],
            "--out": [*given, "--out", str(scenario / "out")],
            "--out /proc/x": [*given, "--out", "/proc/x"],
            "--service-host 198.51.100.7": [*given, "--service-host", "198.51.100.7"],
            "-u 5: arrivals come": [*given, "-u", "5", "--open-loop", "poisson:rate_per_s=4"],
            "--mock-token-env: goes with --host": [*given, "--mock-token-env", "X"],
            "--expect-workers: goes with --master": [*given, "--expect-workers", "3"],
            "--master: does not go with --worker": [*given, "--master", "--worker"],
            "--processes -5": [*given, "--processes", "-5"],
            "Nobody: is no user class": [*given, "Nobody"],
            "Caller: is no user class": [*given, "Caller"],
            "--tags foo": [*given, "-T", "foo"],
            "--exclude-tags foo": [*given, "-E", "foo"],
            "--junit -": [*given, "--junit", "-"],
            "less than low": [*given, "--shape", "sawtooth:low=9,high=3,period=5,for=9"],
            "goes with --host": [*given, "--mock-url", "http://127.0.0.1:9"],
            "--mock-url": [
                *(*given, "--host", "http://127.0.0.1:9"),
                *("--set", "workload.mix={stream=1}"),
            ],
        }
        before = files(tmp_path)
        running = [held.enter_context(begun(tmp_path, words)) for words in mistakes.values()]
        for what, process in zip(mistakes, running, strict=True):
            out, err = process.communicate(timeout=240)  # all of them start at once
            assert (process.returncode, out, err.count("\n")) == (2, "", 1), (what, err)
            assert what in err
    assert files(tmp_path) == before
    assert mentioning(str(tmp_path)) == []


def begun(folder: Path, words: list[str]) -> "subprocess.Popen[str]":
    """Locust with these options, its two outputs apart."""
    return subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", str(USERS), *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_was_done_and_ends_everything(
    tmp_path: Path, number: signal.Signals
) -> None:
    """With two workers there is one stack; all of it ends, judged once, and the rows are kept."""
    scenario = tmp_path / "small.toml"
    scenario.write_text(SMALL)
    options = ["--scenario", str(scenario), "--out", str(tmp_path / "out"), "-t", "60s"]
    options += ["--master-bind-port", str(free_port())]
    with locust(tmp_path, "two", "--headless", "--processes", "2", *options) as running:
        running.until("POST +review +[1-9]")
        mocks = [line for line in mentioning(str(tmp_path)) if "mock_llm" in line]
        # A terminal sends Ctrl-C to the workers as well; whoever kills a master does not.
        send = os.killpg if number == signal.SIGINT else os.kill
        send(running.running.pid, number)
        code = running.code()
    assert len(mocks) == 1
    assert running.said.count("what is to hold") == 1
    assert "Traceback" not in running.said
    assert "KeyboardInterrupt" not in running.said
    assert code == 130, running.said
    assert results(tmp_path)["stopped"] == "interrupted"
    assert results(tmp_path)["requests"] > 0
    assert mentioning(str(tmp_path)) == []


def test_nobody_is_taken_away_at_its_turn() -> None:
    """Told to leave as its pause ends a user asks nothing; a key that was cut is not used again."""
    script = Path(__file__).with_name("leaving.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"at_its_turn": [], "cut": ["u0.0"], "after": ["u0.1"]}
