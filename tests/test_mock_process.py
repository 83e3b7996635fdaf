"""`python -m mock_llm serve`: it answers, stops on a signal, and complains in one line."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from served import ROOT, serving

from mock_llm.__main__ import main
from mock_llm.config import ColdStart, Model, Profile, Upstream
from mock_llm.errors import InputError
from mock_llm.serve import instant, read_answers

QUESTION = {"messages": [{"role": "user", "content": "A great book, I loved it."}]}


def request(url: str, body: object = QUESTION) -> urllib.request.Request:
    fields = {"Authorization": "Bearer key-1", "X-Request-Key": "r1"}
    return urllib.request.Request(  # noqa: S310 - the address is our own
        f"{url}/chat/completions", json.dumps(body).encode(), fields
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_answers_and_stops(tmp_path: Path, number: signal.Signals) -> None:
    """It prints where it is, answers with the right label, and leaves a full ledger behind."""
    ledger, answers = tmp_path / "ledger.jsonl", tmp_path / "answers.jsonl"
    scenario = tmp_path / "scenario.json"
    model = {"prompt_usd_per_m": 1, "completion_usd_per_m": 1, "skill": 1.0}
    slow = {**model, "profile": {"ttft": 1e6}}
    upstream = {
        "profile": {"ttft": 0.0},
        "models": {"m": model, "slow": slow},
        "keep_alive_s": 0.01,
    }
    scenario.write_text(json.dumps({"workload": {"kind": "batch"}, "upstream": upstream}))
    answers.write_text('{"key": "r1", "label": "negative"}\n')
    options = ("--ledger", str(ledger), "--answers", str(answers))
    with serving(str(scenario), *options) as (process, url):
        with urllib.request.urlopen(request(url)) as response:  # noqa: S310
            text = json.load(response)["choices"][0]["message"]["content"]
        with urllib.request.urlopen(request(url, {**QUESTION, "model": "slow"})):  # noqa: S310
            process.send_signal(number)
            _, complaints = process.communicate()
    rows = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert process.returncode == 0
    assert complaints.startswith("mock_llm: 2 attempts, 0 faults injected; answers ")
    assert json.loads(text)["label"] == "negative"
    assert [(row["model"], row["ended"]) for row in rows] == [
        ("m", "complete"),
        ("slow", "shutdown"),
    ]


def test_start_tells_how_to_control_it() -> None:
    """Token and link come after the address; both open it, and the token is not on stderr."""
    with serving("--zero-delay") as (process, url):
        assert process.stdout is not None
        token, link = (process.stdout.readline().split()[-1] for _ in range(2))
        origin = url.removesuffix("/api/v1")
        asked = urllib.request.Request(f"{origin}/__control", headers={"X-Control-Token": token})  # noqa: S310
        with urllib.request.urlopen(asked) as response:  # noqa: S310
            state = json.load(response)
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate()
    assert (link, state["seed"]) == (f"{origin}/__dashboard#token={token}", 1)
    assert complaints == "mock_llm: 0 attempts, 0 faults injected\n"


def test_no_control_and_quiet() -> None:
    """Without control its pages are 404 and nothing is told of it; quiet, there is no summary."""
    with serving("--zero-delay", "--no-control", "--quiet") as (process, url):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url.removesuffix("/api/v1") + "/__control")  # noqa: S310
        process.send_signal(signal.SIGTERM)
        assert process.communicate() == ("", "")


def test_port_in_use_is_a_users_error() -> None:
    """A second server on the same port says so in one line and exits with 2."""
    with serving("--zero-delay") as (_, url):
        port = url.removesuffix("/api/v1").rpartition(":")[2]
        second = subprocess.run(
            [sys.executable, "-m", "mock_llm", "serve", "--port", port],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr.startswith(f"mock_llm: cannot listen on 127.0.0.1:{port}: ")
    assert second.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["serve", "--port", "x"], "mock_llm serve: argument --port: x is not a port: give one"),
        (["serve", "--port", "70000"], "mock_llm serve: argument --port: 70000 is not a port"),
        (["serve", "--drain", "-1"], "mock_llm serve: argument --drain: -1 is no time: give"),
        (
            ["serve", "--workers", "0"],
            "mock_llm serve: argument --workers: 0 workers: give 1 to 64",
        ),
        (["serve", "--ledg=x"], "mock_llm: unrecognized arguments: --ledg=x"),
        ([], "mock_llm: the following arguments are required: command"),
        (["serve", "missing.toml"], "mock_llm: missing.toml: no such file"),
        (["serve", "--timing", "none"], "mock_llm: --timing says how a cassette is replayed"),
        (["serve", "--on-miss", "mock"], "mock_llm: --on-miss says how a cassette is replayed"),
        (["serve", "--answers", "missing"], "mock_llm: missing: cannot read the answers: No such"),
    ],
)
def test_bad_arguments(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the user got wrong is one line on stderr and exit code 2."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else -1
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert said.err.startswith(complaint)
    assert said.err.count("\n") == 1


def test_instant_takes_all_waiting_away() -> None:
    """With zero delay every profile answers at once, a model's own included."""
    slow = Profile(ttft=5, itl=1, prefill_s_per_1k=1, cold_start=ColdStart(extra_s=9))
    model = Model(prompt_usd_per_m=1, completion_usd_per_m=2, profile=slow)
    quick = instant(Upstream(profile=slow, models={"m": model}, connection_setup=3))
    assert quick.profile == quick.models["m"].profile == Profile(ttft=0)
    assert quick.connection_setup == 0


def test_answers_name_the_line_that_is_wrong(tmp_path: Path) -> None:
    """Blank lines and further columns do not matter; a line of another shape is named."""
    path = tmp_path / "answers.jsonl"
    path.write_text('{"key": "a", "label": "positive", "text": "x"}\n\n{"key": "b"}\n')
    with pytest.raises(InputError, match=r"answers\.jsonl, line 3: .*`label`"):
        read_answers(path)
    path.write_text('{"key": "a", "label": "positive", "text": "x"}\n\n')
    assert read_answers(path) == {"a": "positive"}
