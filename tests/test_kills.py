"""A run that is killed at any moment goes on: nothing is lost, nothing that ended is paid again."""

import json
import math
import os
import signal
import time
from collections import Counter
from pathlib import Path
from random import Random

import msgspec
import pytest
from commands import process
from served import serving

from harness.pipeline.journal import Begun, Done, Settled
from mock_llm.ledger import Row

KILLS = 20
SLOTS = 4
REVIEWS = 400  # more than are done between the kills, also where those come late
SCENARIO = f"""\
[workload]
reviews = {REVIEWS}
corpus = "synthetic:kitchen"
[upstream]
abort_billing = "full"
[upstream.profile]
ttft = 0.03
[upstream.faults]
sick = {{ kind = "server_error", rate = 0.1 }}
[pipeline]
concurrency = {SLOTS}
retries = 8
rate_limit = "none"
backoff = {{ base_s = 0.01, cap_s = 0.05 }}
budget = {{ run_usd = 1.0, calls = 1000 }}
[variants.go]
"""
CENT = 0.01


def settled(journal: Path) -> list[Settled]:
    """The attempts that a journal says have ended, a torn last line left out."""
    lines = journal.read_bytes().split(b"\n")[1:-1]
    read = [msgspec.json.decode(line, type=Begun | Settled | Done) for line in lines]
    return [line for line in read if isinstance(line, Settled)]


def killed(folder: Path, command: tuple[str, ...], journal: Path, random: Random) -> None:
    """Run until some attempts have ended, and a moment longer; then kill it."""
    until = (len(settled(journal)) if journal.exists() else 0) + random.randint(0, 10)
    with process(folder, *command, environment={"KEY": "any"}) as running:
        while not journal.exists() or len(settled(journal)) <= until:
            assert running.poll() is None, running.communicate()
        time.sleep(random.random() * 0.03)  # the clock of a process, which is what is cut off
        os.kill(running.pid, signal.SIGKILL)
        running.communicate()


def test_twenty_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    """Killed at 20 random moments, every review is there once and the books agree to the cent."""
    (tmp_path / "real.toml").write_text(SCENARIO)
    ledger, random = tmp_path / "ledger.jsonl", Random(1)
    journal = tmp_path / "runs" / "go-real-1" / "journal.jsonl"
    with serving(str(tmp_path / "real.toml"), "--ledger", str(ledger), "--quiet") as (_, url):
        where = ("--engine", "real", "--base-url", url, "--key-env", "KEY", "--yes")
        command = ("run", "real.toml", *where, "--out", "runs", "--json", "out.json")
        for number in range(KILLS):
            killed(tmp_path, (*command, "--resume") if number else command, journal, random)
        with process(tmp_path, *command, "--resume", environment={"KEY": "any"}) as running:
            said = running.communicate()
        assert running.returncode == 0, said
    report = json.loads((tmp_path / "out.json").read_text())["runs"][0]
    rows = [msgspec.json.decode(line, type=Row) for line in ledger.read_bytes().splitlines()]
    calls = [row for row in rows if row.model]
    requests = [
        json.loads(line) for line in (journal.parent / "requests.jsonl").read_text().splitlines()
    ]
    assert Counter(row["key"] for row in requests) == {f"r{n:06d}": 1 for n in range(REVIEWS)}
    assert (report["ok"], report["valid"], report["invalid_reasons"]) == (REVIEWS, True, [])
    # Every attempt was sent once: what is made again after a kill has a number of its own.
    assert set(Counter((row.key, row.attempt) for row in calls).values()) == {1}
    ended = {(one.row.key, str(one.row.attempt)): one.row for one in settled(journal)}
    doubt = {tuple(one.split(" attempt ")) for one in report["in_doubt"]}
    for row in calls:
        if (row.key, row.attempt) in ended:
            assert row.billed_usd == ended[row.key, row.attempt].cost_usd
    assert {(row.key, row.attempt) for row in calls} - set(ended) <= doubt
    assert 0 < len(doubt) <= KILLS * SLOTS
    sure = math.fsum(row.billed_usd for row in calls if (row.key, row.attempt) in ended)
    paid = math.fsum(row.billed_usd for row in calls)
    assert report["cost_usd"] - report["possibly_paid_twice_usd"] == pytest.approx(sure)
    assert abs(report["cost_usd"] - paid) < CENT
    answered = Counter(
        row.key for row in calls if (row.key, row.attempt) in ended and row.billed_usd
    )
    assert set(answered.values()) == {1}
