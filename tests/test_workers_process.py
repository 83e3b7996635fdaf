"""`--workers` and `--until-eof` from outside: how a mock of several processes starts and ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from commands import process
from served import ROOT, children, serving, watched

from mock_llm.config import Upstream
from mock_llm.errors import InputError
from mock_llm.listeners import listeners
from mock_llm.serve import serve

QUESTION = json.dumps({"messages": [{"role": "user", "content": "A great book."}]}).encode()
SLOW = {"upstream": {"profile": {"ttft": 1e6}, "keep_alive_s": 0.01}}
CRISIS = ROOT / "scenarios" / "timeout_crisis.toml"


def ask(url: str) -> int:
    fields = {"Authorization": "Bearer key-1"}
    request = urllib.request.Request(f"{url}/chat/completions", QUESTION, fields)  # noqa: S310
    with urllib.request.urlopen(request) as response:  # noqa: S310 - the address is our own
        return int(response.status)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all(tmp_path: Path, number: signal.Signals) -> None:
    """What is under way ends with a row, no process is left, and nothing is complained about."""
    ledger, scenario = tmp_path / "ledger.jsonl", tmp_path / "slow.json"
    scenario.write_text(json.dumps(SLOW))
    options = (str(scenario), "--workers", "2", "--ledger", str(ledger), "--quiet")
    with serving(*options, start_new_session=True) as (running, url):
        pids = children(running.pid)
        statuses = [ask(url) for _ in range(5)]
        # Ctrl-C reaches the whole group, SIGTERM one process.
        (os.killpg if number == signal.SIGINT else os.kill)(running.pid, number)
        _, complaints = running.communicate()
    rows = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert (running.returncode, complaints, statuses) == (0, "", [200] * 5)
    assert [row["ended"] for row in rows] == ["client_left"] * 5
    assert len(pids) == 2
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_end_of_standard_input_stops_it(workers: str) -> None:
    """With `--until-eof` a mock ends when whoever holds its standard input is gone."""
    options = ("--zero-delay", "--until-eof", "--workers", workers, "--quiet")
    with serving(*options, stdin=subprocess.PIPE) as (running, url):
        assert ask(url) == 200
        assert running.stdin is not None
        running.stdin.write("not the end\n")
        running.stdin.flush()
        assert ask(url) == 200
        _, complaints = running.communicate()
    assert (running.returncode, complaints) == (0, "")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_input_without_an_end_to_wait_for_is_one_line(workers: str) -> None:
    """A file on standard input is no pipe: `--until-eof` says so and exits with 2."""
    command = [sys.executable, "-m", "mock_llm", "serve", "--port", "0", "--until-eof"]
    command += ["--workers", workers]
    with Path(__file__).open() as file:
        done = subprocess.run(
            command, cwd=ROOT, stdin=file, capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mock_llm: cannot wait for the end of input: ")
    assert done.stderr.count("\n") == 1


def test_workers_end_with_a_killed_hub() -> None:
    """A hub that is killed leaves no worker behind."""
    with serving("--zero-delay", "--workers", "2") as (running, _):
        pids = children(running.pid)
        with watched(pids) as gone:
            running.kill()
            gone()
    assert len(pids) == 2


def test_a_worker_that_keeps_dying_ends_the_mock() -> None:
    """After three deaths in a row one clear line says so, quiet or not, and the exit code is 1."""
    with serving("--zero-delay", "--workers", "2", "--quiet") as (running, url):
        assert running.stderr is not None
        (first, other), gone, said = children(running.pid), list[int](), list[str]()
        for _ in range(3):
            gone.append(first)
            os.kill(first, signal.SIGKILL)
            said.append(running.stderr.readline())
            while said[-1].endswith("again\n") and first in {0, *gone}:
                assert ask(url) == 200
                first = next(iter({*children(running.pid)} - {other, *gone}), 0)
        assert running.wait(60) == 1
        assert running.stderr.read() == ""
    again = "mock_llm: worker 0 died (SIGKILL): it is started again\n"
    last = "mock_llm: worker 0 died (SIGKILL): once too often, so the mock ends\n"
    assert said == [again, again, last]


def test_control_journal_and_summary_are_of_all_workers() -> None:
    """The token printed at the start opens the journal of all, and one summary ends their work."""
    with serving("--zero-delay", "--workers", "2") as (running, url):
        assert running.stdout is not None
        token, link = (running.stdout.readline().split()[-1] for _ in range(2))
        assert [ask(url) for _ in range(12)] == [200] * 12  # each on a connection of its own
        origin = url.removesuffix("/api/v1")
        journal = f"{origin}/__control/journal"
        asked = urllib.request.Request(journal, headers={"X-Control-Token": token})  # noqa: S310
        with urllib.request.urlopen(asked) as response:  # noqa: S310 - the address is our own
            numbers = [row["number"] for row in json.load(response)["rows"]]
        running.send_signal(signal.SIGTERM)
        more, complaints = running.communicate()
    summaries = [
        line for line in complaints.splitlines() if "12 attempts, 0 faults injected" in line
    ]
    assert (link, more) == (f"{origin}/__dashboard#token={token}", "")
    assert numbers == list(range(1, 13))
    assert len(summaries) == 1


@pytest.mark.parametrize(("first", "second"), [("1", "2"), ("2", "2"), ("2", "1")])
def test_a_port_in_use_is_never_shared_with_strangers(first: str, second: str) -> None:
    """A second mock on the port says so in one line, though both could share it."""
    with serving("--zero-delay", "--workers", first) as (_, url):
        port = url.removesuffix("/api/v1").rpartition(":")[2]
        command = [sys.executable, "-m", "mock_llm", "serve", "--port", port, "--workers", second]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"mock_llm: cannot listen on 127.0.0.1:{port}: ")
    assert done.stderr.count("\n") == 1


def test_a_ledger_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    """What every worker would find wrong is said once, before any of them starts."""
    command = [sys.executable, "-m", "mock_llm", "serve", "--port", "0", "--workers", "2"]
    command += ["--ledger", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"mock_llm: {tmp_path}: cannot write the ledger: Is a directory\n"


def test_a_seed_that_cannot_travel_is_one_line() -> None:
    """A seed beyond 64 bits is said to be too large, before any worker dies of it."""
    with pytest.raises(InputError, match=r"^a whole number .* is too large .* at most 64 bits$"):
        serve(Upstream(), workers=2, seed=2**64)


def test_without_shared_ports_there_is_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that cannot share a port is told to use one worker."""
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(InputError, match=r"several workers need Linux .*: use --workers 1"):
        listeners("127.0.0.1", 0, 2)


def test_a_killed_live_run_leaves_no_mock(tmp_path: Path) -> None:
    """The mock of a live run that is killed ends too."""
    options = ["run", str(CRISIS), "--variant", "after", "--engine", "live", "--corpus"]
    options += ["templates8", "--out", "out", "--set", "upstream.profile.ttft=0.1"]
    with process(tmp_path, *options) as running:
        assert running.stderr is not None
        while not running.stderr.readline().startswith("Batch 1/"):
            assert running.poll() is None
        pids = children(running.pid)
        with watched(pids) as gone:
            running.kill()
            gone()
    assert len(pids) == 1
