"""The real engine against the mock as a stranger: TLS, keys, caps, credits, and nothing shown."""

import io
import json
import os
import signal
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from commands import Harness, in_folder, process
from papers import Papers
from served import serving

from harness.pipeline.secret import Secret
from mock_llm.ledger import Row

KEY = "sk-or-v1-0123456789abcdef-secret"
VARIABLE = "MY_ROUTER_KEY"
SCENARIO = """\
[workload]
reviews = 12
corpus = "synthetic:kitchen"
[upstream]
keys = ["{key}"]
[upstream.profile]
ttft = 0.02
[pipeline]
concurrency = 4
retries = 8
rate_limit = "none"
backoff = {{ base_s = 0.05, cap_s = 0.1 }}
[variants.go]
"""
CAPS = ("--max-usd", "1", "--max-calls", "100", "--yes")


@pytest.fixture
def harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Harness:
    """`harness ...` in a folder with `real.toml`, the key in its environment."""
    (tmp_path / "real.toml").write_text(SCENARIO.format(key="another"))
    monkeypatch.setenv(VARIABLE, KEY)
    return in_folder(tmp_path, monkeypatch, capsys)


@contextmanager
def provider(
    folder: Path, *options: str, scheme: str = "http", more: str = ""
) -> Iterator[tuple[str, Path]]:
    """A mock that takes only our key; yields its address and its ledger."""
    scenario, ledger = folder / "provider.toml", folder / "ledger.jsonl"
    scenario.write_text(SCENARIO.format(key=KEY).replace("[upstream]\n", f"[upstream]\n{more}\n"))
    arguments = (str(scenario), "--ledger", str(ledger), "--quiet", *options)
    with serving(*arguments, scheme=scheme) as (_, url):
        yield url, ledger


def _whole_lines(file: Path) -> list[bytes]:
    """Of a file that is perhaps being written."""
    return file.read_bytes().rpartition(b"\n")[0].splitlines()


def billed(ledger: Path) -> list[Row]:
    """The provider's rows of calls of a model."""
    rows = [msgspec.json.decode(line, type=Row) for line in _whole_lines(ledger)]
    return [row for row in rows if row.model]


def real(url: str, *more: str) -> tuple[str, ...]:
    """The command line of a run."""
    where = ("--engine", "real", "--base-url", url, "--key-env", VARIABLE)
    return ("run", "real.toml", *where, "--json", "out.json", *more)


def told(folder: Path) -> Any:
    """The run's JSON."""
    return json.loads((folder / "out.json").read_text())["runs"][0]


def shown(folder: Path) -> str:
    """Everything in the files under a folder, but for the scenario that names the key."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "provider.toml"]
    assert {"journal.jsonl", "records.jsonl", "run.json"} <= {path.name for path in files}
    return "".join(path.read_text() for path in files)


def command_lines() -> str:
    """What the list of processes shows."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue  # it has just ended
    return "".join(found)


def test_a_stranger_over_tls_is_paid_to_the_cent_and_shows_no_key(tmp_path: Path) -> None:
    """With a private authority all is answered, the books agree, and the key is nowhere."""
    papers = Papers(tmp_path)
    (tmp_path / "real.toml").write_text(SCENARIO.format(key="another"))
    with provider(tmp_path, *papers.options, scheme="https") as (url, ledger):
        command = real(url, "--ca-file", str(papers.ca), *CAPS)
        lists = ""
        with process(tmp_path, *command, environment={VARIABLE: KEY}) as running:
            while running.poll() is None:
                lists += command_lines()
            said = "".join(running.communicate())
        bill = sum(row.billed_usd for row in billed(ledger))
    report = told(tmp_path)
    assert (running.returncode, report["ok"], report["valid"]) == (0, 12, True)
    assert report["cost_usd"] == pytest.approx(bill, abs=1e-9)
    assert report["reconciliation"]["credits"]["difference_usd"] == pytest.approx(0, abs=1e-9)
    assert report["reconciliation"]["generations"]["agreed"] == 12
    assert url in lists  # it was looked at while it ran
    for text in (said, lists, shown(tmp_path)):
        assert KEY not in text


def test_an_unknown_authority_is_not_trusted(harness: Harness, tmp_path: Path) -> None:
    """Without its authority's file the endpoint is not reached, and nothing is sent."""
    with provider(tmp_path, *Papers(tmp_path).options, scheme="https") as (url, _):
        done = harness(*real(url, *CAPS))
    assert done.code == 2
    assert "cannot be reached" in done.err
    assert "certificate" in done.err.lower()


def test_a_key_that_is_not_taken_is_told_before_any_call(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong key ends it with one line that does not show it."""
    monkeypatch.setenv(VARIABLE, "sk-or-v1-wrong-key")
    with provider(tmp_path) as (url, ledger):
        done = harness(*real(url, *CAPS))
        assert billed(ledger) == []
    assert (done.code, "does not take the key" in done.err) == (2, True)
    assert "wrong-key" not in done.out + done.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--yes", "--max-calls", "9"), "needs a hard cap: --max-usd"),
        (("--yes", "--max-usd", "1"), "needs a hard cap: --max-calls"),
        ((*CAPS, "--key-env", "NOT_SET"), "NOT_SET is not set"),
        ((*CAPS, "--base-url", "http://example.com/v1"), "a key is sent over https only"),
        ((*CAPS, "--base-url", "https://h/v1?key=abc"), "only scheme, host and path"),
        ((*CAPS, "--base-url", "nowhere"), "not an address"),
        ((*CAPS, "--base-url", "https://[bad/v1"), "not an address"),
        ((*CAPS, "--seeds", "1-2"), "one run at a time"),
        ((*CAPS, "--target", "m:f"), "not with --target"),
        ((*CAPS, "--resume"), "there is no journal"),
        (("--max-usd", "-1", "--max-calls", "9"), "pipeline.budget.run_usd"),
        ((*CAPS, "--ca-file", "missing.pem"), "missing.pem: cannot be read"),
        ((*CAPS, "--base-url", "http://127.0.0.1:9/v1"), "cannot be reached"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_sent(
    harness: Harness, arguments: tuple[str, ...], complaint: str
) -> None:
    """Whatever is missing or wrong, one line says what to do, and the key is not in it."""
    done = harness(*real("http://127.0.0.1:9/api/v1", *arguments))
    assert done.code == 2, done
    assert complaint in done.err
    assert len(done.err.splitlines()) == 1
    assert KEY not in done.out + done.err
    assert "abc" not in done.err


@pytest.mark.parametrize("option", [("--yes",), ("--max-usd", "1"), ("--base-url", "https://h/v1")])
def test_other_engines_take_no_options_of_money(harness: Harness, option: tuple[str, ...]) -> None:
    """An option that would do nothing is refused."""
    done = harness("run", "real.toml", *option)
    assert (done.code, f"{option[0]}: for --engine real only" in done.err) == (2, True)


def test_whoever_is_asked_can_say_no(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The projection, the worst case and the caps are told first; after a no nothing is sent."""
    terminal = io.StringIO("n\n")
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    with provider(tmp_path) as (url, ledger):
        done = harness(*real(url, *CAPS[:-1]))
        assert billed(ledger) == []
    assert done.code == 130
    assert "before any call" in done.out
    assert "if every call costs all it can" in done.out
    assert "hard caps $1.00 and 100 calls" in done.out


def test_nobody_to_ask_needs_yes(harness: Harness, tmp_path: Path) -> None:
    """Without a terminal it must be said that money may be spent."""
    with provider(tmp_path) as (url, ledger):
        done = harness(*real(url, *CAPS[:-1]))
        assert billed(ledger) == []
    assert (done.code, "say --yes" in done.err) == (2, True)


def test_a_cap_stops_it_and_more_money_goes_on(harness: Harness, tmp_path: Path) -> None:
    """At its cap a run ends with 4; resumed with more it makes up the rest, and repeats nothing."""
    with provider(tmp_path) as (url, ledger):
        first = harness(*real(url, *CAPS, "--max-calls", "5"))
        stopped = told(tmp_path)
        again = harness(*real(url, *CAPS))
        second = harness(*real(url, *CAPS, "--resume"))
        rows = billed(ledger)
    assert (first.code, stopped["stopped"], stopped["ok"], stopped["rejected"]) == (
        *(4, "budget", 5, 7),
    )
    assert (again.code, "go on with --resume" in again.err) == (2, True)
    report = told(tmp_path)
    assert (second.code, report["ok"], report["attempts"]) == (0, 12, 12)
    assert set(Counter(row.key for row in rows).values()) == {1}
    assert report["cost_usd"] == pytest.approx(sum(row.billed_usd for row in rows), abs=1e-9)


def test_credits_that_run_out_stop_it(harness: Harness, tmp_path: Path) -> None:
    """A 402 that will not pass ends the run like a cap, without a call for each review."""
    with provider(tmp_path, more="credits_usd = 0.002") as (url, ledger):
        done = harness(*real(url, *CAPS, "--set", "pipeline.concurrency=1"))
        rows = billed(ledger)
    report = told(tmp_path)
    assert (done.code, report["stopped"]) == (4, "budget")
    assert 0 < report["ok"] < 12
    assert Counter(row.status for row in rows)[402] == 1
    assert sum(row.billed_usd for row in rows) <= 0.002


def test_a_402_in_flight_is_waited_out(harness: Harness, tmp_path: Path) -> None:
    """When only what is under way is in the way, the call is made again and answered."""
    many = ("--set", "pipeline.concurrency=12", "--set", "pipeline.max_tokens=2000")
    with provider(tmp_path, more="credits_usd = 0.012") as (url, ledger):
        done = harness(*real(url, *CAPS, *many))
        rows = billed(ledger)
    assert Counter(row.status for row in rows)[402] > 0
    assert (done.code, told(tmp_path)["ok"]) == (0, 12)


def test_a_throttle_is_lived_with(harness: Harness, tmp_path: Path) -> None:
    """Refusals cost nothing and are tried again."""
    with provider(tmp_path, more="throttle = { concurrent = 2 }") as (url, ledger):
        done = harness(*real(url, *CAPS))
        rows = billed(ledger)
    report = told(tmp_path)
    assert Counter(row.status for row in rows)[429] > 0
    assert (done.code, report["ok"]) == (0, 12)
    assert report["cost_usd"] == pytest.approx(sum(row.billed_usd for row in rows), abs=1e-9)


def test_ctrl_c_keeps_what_was_paid_for(tmp_path: Path) -> None:
    """Interrupted it ends with 130; resumed it names what may have been paid twice."""
    (tmp_path / "real.toml").write_text(SCENARIO.format(key="another"))
    slow = ("--set", "workload.reviews=40")
    with provider(tmp_path) as (url, ledger):
        command = real(url, *CAPS, *slow)
        with process(tmp_path, *command, environment={VARIABLE: KEY}) as running:
            while not ledger.exists() or len(billed(ledger)) < 8:
                assert running.poll() is None
            os.kill(running.pid, signal.SIGINT)
            running.communicate()
        assert running.returncode == 130
        before = told(tmp_path)
        with process(tmp_path, *command, "--resume", environment={VARIABLE: KEY}) as running:
            running.communicate()
        rows = billed(ledger)
    report = told(tmp_path)
    assert (running.returncode, report["ok"], report["valid"]) == (0, 40, True)
    assert before["ok"] < 40
    sent_twice = {key for key, count in Counter(row.key for row in rows).items() if count > 1}
    assert sent_twice <= {one.split()[0] for one in report["in_doubt"]}
    assert len(report["in_doubt"]) <= 4


def test_a_model_that_is_not_offered_is_told(harness: Harness, tmp_path: Path) -> None:
    """What the endpoint does not have is not asked for."""
    (tmp_path / "real.toml").write_text(
        SCENARIO.format(key="another")
        + "[upstream.models.'a/b']\nprompt_usd_per_m = 1.0\ncompletion_usd_per_m = 1.0\n"
    )
    with provider(tmp_path) as (url, _):
        router = 'pipeline.router={kind="single", model="a/b"}'
        done = harness(*real(url, *CAPS, "--set", router))
    assert (done.code, "does not offer a/b" in done.err) == (2, True)


def test_a_key_hides_itself() -> None:
    """No representation, format, JSON or traceback of what holds a key has its text."""
    secret = Secret(KEY)
    assert secret.reveal() == KEY
    shown = [repr(secret), str(secret), f"{secret}", repr({"key": secret})]
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)
    shown += traceback.format_exception(ValueError(secret))
    assert KEY not in "".join(shown)
