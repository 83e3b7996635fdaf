"""A real service, killed at random moments and started again: nothing is lost or done twice."""

import json
import random
import re
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from commands import in_folder, process
from service_process import ServiceProcess, service_process

from harness.pipeline.service.keeping import Keeper, header_of
from harness.pipeline.service.lines import Header, Story
from mock_llm.ledger import Row

KILLS, ITEMS, KEYS, WORKERS = 20, 150, 60, 4
SCENARIO = f"""\
[workload]
[upstream]
profile = {{ ttft = 0.1 }}
connection_setup = 0.0
[pipeline]
workers = {WORKERS}
concurrency = {WORKERS}
rate_limit = "none"
"""
KEY = {"OPENROUTER_API_KEY": "k"}
REVIEWS = [{"id": f"r{n}", "text": f"Lamp number {n} is a good one."} for n in range(ITEMS)]


class Callers:
    """Clients that ask again, with the same key, until they have an answer."""

    def __init__(self, service: ServiceProcess) -> None:
        self.service = service
        self.answers: dict[str, list[str]] = {}
        self.given_up = Event()

    def insist(self, path: str, body: object, key: str) -> Any:
        """Ask until there is an answer, whatever happens to the service."""
        while not self.given_up.is_set():
            try:
                reply = self.service.ask("POST", path, body, X_Request_Key=key)
            except (OSError, HTTPException):
                time.sleep(0.02)
                continue
            if reply.status in {200, 202}:
                return reply.json
            assert reply.status == 503, reply
        return None

    def review(self, key: str) -> None:
        """Have a review of one's own labelled."""
        body = {"text": f"The chair of {key} has a leg too few."}
        if (found := self.insist("/v1/reviews", body, key)) is not None:
            self.answers.setdefault(key, []).append(found["text"])


def killed(folder: Path, port: int, mock: str, wait_s: float, callers: Callers) -> int:
    """Start a service, kill it after so long; returns how many attempts it found in doubt."""
    words = ("serve", *options(mock), "--port", str(port))
    with process(folder, *words, environment=KEY) as running:
        if wait_s < 0:  # while it starts
            time.sleep(-wait_s)
        else:
            assert running.stdout is not None
            line = running.stdout.readline()
            assert line.startswith("serving on"), running.communicate()
            callers.service.url = line.split()[2]
            time.sleep(wait_s)
        running.kill()
        out, err = running.communicate()
    assert "Traceback" not in err
    # Killed while it starts, it may have been up already, and said that first.
    told = re.search(r"^(\d+) .*in flight", out, re.MULTILINE)
    return int(told[1]) if told else 0


def options(mock: str) -> tuple[str, ...]:
    """Of `harness serve` with a journal."""
    return ("s.toml", "--upstream-url", mock, "--journal", "journal.jsonl", "--drain", "20")


def story_of(path: Path) -> Story:
    """What a journal comes to."""
    with path.open("rb") as file:
        header = msgspec.json.decode(file.readline(), type=Header)
    keeper = Keeper.take_up(path, header)
    keeper.close()
    assert keeper.in_doubt == []
    return keeper.story


def check_books(rows: list[Row], story: Story) -> None:
    """Both sides saw the same calls and the same money, but for those that are named."""
    lost = {(one.key, one.attempt) for one in story.lost}
    seen = Counter((row.key, int(row.attempt)) for row in rows)
    assert set(seen.values()) == {1}
    settled = Counter(key for key, attempt in seen if (key, attempt) not in lost)
    asked = {f"b000001.{n:06d}" for n in range(ITEMS)} | {f"k{n}" for n in range(KEYS)}
    assert settled == dict.fromkeys(asked, 1)
    doubled_usd = sum(row.billed_usd for row in rows if (row.key, int(row.attempt)) in lost)
    told_usd = sum(one.usd for one in story.spent.values() if not one.estimated)
    billed_usd = sum(row.billed_usd for row in rows)
    assert billed_usd == pytest.approx(told_usd + doubled_usd, abs=1e-9)
    assert sum(one.calls for one in story.spent.values()) == len(asked) + len(lost)


def test_a_journal_that_does_not_fit_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another file, and a journal that a process is writing: one line each, and exit code 2."""
    harness = in_folder(tmp_path, monkeypatch, capsys)
    monkeypatch.setenv("OPENROUTER_API_KEY", "k")
    words = ("serve", "--port", "0", "--upstream-url", "http://127.0.0.1:9/api/v1", "--journal")
    (tmp_path / "notes").write_text("notes\n")
    keeper = Keeper.take_up(tmp_path / "held", header_of("r", {}, None))
    for name, why in (("notes", "no journal of a service"), ("held", "another process")):
        code, out, err = harness(*words, name)
        assert (code, out) == (2, "")
        assert why in err
        assert err.count("\n") == 1
    keeper.close()
    assert (tmp_path / "notes").read_text() == "notes\n"


@pytest.mark.parametrize("seed", [1])
def test_killed_at_twenty_moments(tmp_path: Path, seed: int) -> None:
    """Every review has one result, every key one answer, and the books agree to the cent."""
    print(f"seed {seed}")
    moments = random.Random(seed)
    (tmp_path / "s.toml").write_text(SCENARIO)
    ledger = tmp_path / "ledger.jsonl"
    mocking = process(tmp_path, "mock", "s.toml", "--port", "0", "--ledger", str(ledger))
    with mocking as mock, ThreadPoolExecutor(4) as pool:
        assert mock.stdout is not None
        url = next(word for word in mock.stdout.readline().split() if word.startswith("http"))
        with service_process(tmp_path, *options(url), environment=KEY) as service:
            callers, port = Callers(service), int(service.url.rpartition(":")[2])
            handed = pool.submit(callers.insist, "/v1/batches", {"reviews": REVIEWS}, "b")
            asked = [pool.submit(callers.review, f"k{n}") for n in range(KEYS)]
            time.sleep(moments.uniform(0.0, 0.5))
            service.running.kill()
            service.running.wait()
        try:
            for _ in range(KILLS - 1):
                starting = moments.random() < 0.15
                wait_s = moments.uniform(-1.0, -0.3) if starting else moments.uniform(0.0, 0.5)
                assert killed(tmp_path, port, url, wait_s, callers) <= WORKERS
            with service_process(tmp_path, *options(url), environment=KEY) as service:
                callers.service = service
                place = f"/v1/batches/{handed.result(60)['id']}"
                for one in asked:
                    one.result(60)
                end = service.ask("GET", f"{place}/events").body.decode()
                found = service.ask("GET", f"{place}?limit=1000").json
                for n in range(KEYS):
                    callers.review(f"k{n}")
                service.running.send_signal(signal.SIGTERM)
                assert service.ended()[0] == 0
        finally:
            callers.given_up.set()
        mock.send_signal(signal.SIGTERM)
        mock.communicate(timeout=60)
    assert "event: end" in end
    assert (found["status"], found["outcomes"]) == ("done", {"ok": ITEMS})
    assert sorted(one["number"] for one in found["results"]) == list(range(ITEMS))
    assert len(callers.answers) == KEYS
    assert {len(both) for both in callers.answers.values()} == {2}
    assert {len(set(both)) for both in callers.answers.values()} == {1}
    print(len(found["results"]), found["possibly_paid_twice"])
    story = story_of(tmp_path / "journal.jsonl")
    assert len(story.lost) <= KILLS * WORKERS
    named = {one.key for one in story.lost}
    assert {one["key"] for one in found["possibly_paid_twice"]} == {
        key for key in named if key.startswith("b")
    }
    check_books([json_row(line) for line in ledger.read_text().splitlines()], story)


def json_row(line: str) -> Row:
    """A row of the mock's ledger."""
    return msgspec.convert(json.loads(line), Row, strict=False)
