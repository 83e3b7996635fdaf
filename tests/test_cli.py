"""The command line: exit codes, JSON, files, progress, and Ctrl-C."""

import json
import os
import re
import signal
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from commands import Done, Harness, files, in_folder, mentioning, process
from runs import CRISIS

import harness.experiments.run as experiment
from harness.records import read_jsonl, records_sha256

CONTRACT = {
    *("scenario", "variant", "engine", "seed", "valid", "invalid_reasons", "requests", "ok"),
    *("timed_out", "failed", "rejected", "attempts", "duration_s", "wall_s", "throughput_per_s"),
    *("latency_s", "timeout_rate", "cost_usd", "baseline_cost_usd", "cost_reduction", "cache"),
    *("routing", "verdicts", "slo", "records_sha256", "accuracy", "context_bytes", "service_s"),
    "time_s",
}
PARTS = {
    "latency_s": {"p50", "p90", "p95", "p99", "max"},
    "cache": {"lookups", "hits", "hit_rate", "repeats_in_input"},
    "slo": {"passed", "checks"},
    "context_bytes": {"peak", "last"},
    "time_s": {"queue", "limiter", "slot", "backoff", "connect", "first_token", "body", "barrier"},
}
BATCH = re.compile(
    r"Batch (\d+)/(\d+): (\d+) reviews so far - \d+\.\d s - \$\d\.\d+ - 0 hits so far - (.+)"
)
ONE = ("run", "small.toml", "--variant", "kept")


@pytest.fixture
def harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Harness:
    """`harness ...` in a folder with `small.toml`."""
    return in_folder(tmp_path, monkeypatch, capsys)


def told(done: Done) -> Any:
    """The JSON on standard output."""
    return json.loads(done.out)


def test_run_ends_with_0_when_every_variant_does_as_expected(harness: Harness) -> None:
    """A variant that must fail and does is as it should be."""
    done = harness("run", "small.toml", "--json", "-")
    assert done.code == 0
    assert [(r["variant"], r["slo"]["passed"]) for r in told(done)["runs"]] == [
        ("kept", True),
        ("broken", False),
    ]


@pytest.mark.parametrize(
    "change",
    [("--variant", "kept", "--set", "slo.duration_s=<= 0.5"), ("--set", "slo.duration_s=<= 50")],
)
def test_run_ends_with_1_when_a_variant_surprises(
    harness: Harness, change: tuple[str, ...]
) -> None:
    """A broken promise is a failure, and so is a before that holds."""
    assert harness("run", "small.toml", *change).code == 1


def test_run_ends_with_3_when_it_is_invalid(harness: Harness) -> None:
    """A run that would hang for ever says so in its table and in its JSON."""
    silence = 'upstream.faults={h={kind="hang_before_headers",rate=1.0}}'
    done = harness(*ONE, "--set", silence, "--set", "pipeline.attempt_timeout_s=none")
    assert done.code == 3
    assert "INVALID" in done.out
    assert "nothing can ever wake again: r000000 has waited" in done.out


def test_json_on_stdout_is_pure_and_keeps_the_contract(harness: Harness) -> None:
    """With `--json -` everything else goes to standard error, and each run has every key."""
    done = harness("run", "small.toml", "--json", "-")
    document = told(done)
    assert {"runs", "agreement", "means"} <= document.keys()
    for run in document["runs"]:
        assert CONTRACT - run.keys() == set()
        for key, parts in PARTS.items():
            assert parts <= run[key].keys(), key
        assert run["ok"] + run["failed"] + run["timed_out"] + run["rejected"] == run["requests"]
        assert sum(run["routing"].values()) == pytest.approx(1)
        assert len(run["records_sha256"]) == 64
    assert "Now try yours" in done.err
    assert "kept" in done.err


def test_json_file_is_written_whole(harness: Harness, tmp_path: Path) -> None:
    """The file holds the same document, an older one is replaced, and no half of one stays."""
    (tmp_path / "out.json").write_text("old")
    done = harness(*ONE, "--json", "out.json")
    assert done.code == 0
    assert "Now try yours" in done.out
    document = json.loads((tmp_path / "out.json").read_text())
    again = told(harness(*ONE, "--json", "-"))
    for run in (*document["runs"], *again["runs"]):
        assert run.pop("wall_s") > 0
    assert document == again
    assert [name for name in files(tmp_path) if name.endswith(".part")] == []


def test_records_are_saved_under_the_run_s_name(harness: Harness, tmp_path: Path) -> None:
    """By default under results/runs, and each file says what the report says."""
    report = told(harness(*ONE, "--seed", "7", "--json", "-"))["runs"][0]
    place = tmp_path / "results" / "runs" / "small" / "kept-virtual-7"
    assert {path.name for path in place.iterdir()} == {
        "journal.jsonl",
        "records.jsonl",
        "requests.jsonl",
        "run.json",
    }
    assert records_sha256(read_jsonl(place / "records.jsonl")) == report["records_sha256"]
    assert json.loads((place / "run.json").read_text())["ok"] == report["ok"] == 20
    lines = [json.loads(line) for line in (place / "requests.jsonl").read_text().splitlines()]
    assert {line["outcome"] for line in lines} == {"ok"}
    assert {line["label"] for line in lines} == {"positive", "negative"}


def test_out_names_another_folder(harness: Harness, tmp_path: Path) -> None:
    """`--out` is made if need be, and nothing else is written."""
    assert harness(*ONE, "--out", "deep/er").code == 0
    assert (tmp_path / "deep" / "er" / "kept-virtual-1" / "run.json").is_file()
    assert not (tmp_path / "results").exists()


def test_seeds_give_a_run_each_and_their_means(harness: Harness) -> None:
    """`--seeds A-B` repeats every variant, and `means` has mean, deviation and interval of each."""
    options = ("--set", "upstream.profile.ttft={kind='exponential',mean=0.1}", "--json", "-")
    document = told(harness("run", "small.toml", "--seeds", "3-5", *options))
    assert [(r["variant"], r["seed"]) for r in document["runs"]] == [
        (variant, seed) for variant in ("kept", "broken") for seed in (3, 4, 5)
    ]
    kept, broken = document["means"]
    assert (kept["variant"], kept["runs"], broken["variant"]) == ("kept", 3, "broken")
    speeds = [run["throughput_per_s"] for run in document["runs"][:3]]
    half = 4.302653 * stdev(speeds) / 3**0.5  # Student's t of two degrees of freedom
    assert kept["throughput_per_s"] == pytest.approx(
        {"mean": fmean(speeds), "sd": stdev(speeds), "half_width_95": half}
    )
    assert len(set(speeds)) == 3


def test_set_and_corpus_override_the_file(harness: Harness) -> None:
    """`--set` reaches every variant, and `--corpus` replaces the scenario's."""
    run = told(
        harness(*ONE, "--set", "workload.reviews=8", "--corpus", "templates8", "--json", "-")
    )
    assert (run["runs"][0]["requests"], run["runs"][0]["corpus"]["name"]) == (8, "templates8")


def test_progress_of_a_single_run_is_told_by_batches(harness: Harness) -> None:
    """On standard error a line for every ten reviews, each with an estimate of the end."""
    lines = [BATCH.fullmatch(line) for line in harness(*ONE).err.splitlines()]
    found = [line.groups() for line in lines if line]
    assert len(found) == len(lines) == 2
    assert [one[:3] for one in found] == [("1", "2", "10"), ("2", "2", "20")]
    assert found[0][3].startswith("done in about ")
    assert found[1][3] == "done"


def test_progress_of_many_runs_is_a_line_each(harness: Harness) -> None:
    """Where nobody watches many runs are announced one by one."""
    lines = harness("run", "small.toml", "--seeds", "1-2").err.splitlines()
    assert [line.split(" - ")[0] for line in lines] == [
        "run 1/4: kept, seed 1",
        "run 2/4: kept, seed 2",
        "run 3/4: broken, seed 1",
        "run 4/4: broken, seed 2",
    ]
    assert lines[0].endswith("end not known yet")
    assert all("done in about " in line for line in lines[1:])


def test_distribution_and_cost_come_before_any_call(harness: Harness) -> None:
    """The first line tells what the run will cost, for a pipeline of ours alone."""
    assert harness(*ONE).out.startswith("kept: before any call: ")
    done = harness(*ONE, "--target", "clients:silent")
    assert done.code == 0
    assert "before any call" not in done.out


def test_warnings_of_the_corpus_are_shown(harness: Harness) -> None:
    """Eight templates are warned of on the screen as well."""
    done = harness(*ONE, "--corpus", "templates8", "--set", "workload.reviews=100")
    assert "corpus: looks generated" in done.out


def test_target_s_own_prints_do_not_spoil_the_json(harness: Harness) -> None:
    """What a target prints goes to standard error with all the rest."""
    done = harness(*ONE, "--target", "clients:printing", "--json", "-")
    assert told(done)["runs"][0]["ok"] == 20
    assert "working on" in done.err


def test_target_is_imported_from_the_current_folder(harness: Harness, tmp_path: Path) -> None:
    """A file beside the scenario serves as a target by its name."""
    text = "async def label(review, base_url):\n    return review.label\n"
    (tmp_path / "ours_alone.py").write_text(text)
    run = told(harness(*ONE, "--target", "ours_alone:label", "--json", "-"))["runs"][0]
    assert (run["ok"], run["accuracy"]["value"]) == (20, 1.0)


def test_target_that_cannot_be_linked_is_told_what_to_send(harness: Harness) -> None:
    """The note about calls that belong to no review is on the screen."""
    done = harness(*ONE, "--target", "clients:anonymous")
    assert done.code == 0
    assert "send review.headers along" in done.out


PATIENT = """
import openai

async def label(review, base_url):
    async with openai.AsyncOpenAI(base_url=base_url, api_key="sk-test") as client:
        found = await client.chat.completions.create(
            model="openai/gpt-4o",
            messages=[{"role": "user", "content": review.text}],
            extra_headers=review.headers,
        )
    return found.choices[0].message.content
"""


def test_headline_tells_of_a_target_s_patience(harness: Harness, tmp_path: Path) -> None:
    """An SDK left at its defaults waits 600 s for an answer that hangs, and the screen says so."""
    (tmp_path / "patient.py").write_text(PATIENT)
    silence = 'upstream.faults={h={kind="hang_before_headers",rate=0.2}}'
    done = harness(*ONE, "--target", "patient:label", "--set", silence)
    assert re.search(r"holds it back: \d+ calls waited 600 s for a first token", done.out)


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        ("clients:blocking", 2, "cannot run synchronous clients"),
        ("clients:synchronous_sdk", 2, "`--engine live`"),
        ("clients:urlopen", 2, "must be an async callable"),
        ("clients:spinning", 3, "target on r000000"),
    ],
)
def test_impossible_targets_end_with_their_code(
    harness: Harness, target: str, code: int, said: str
) -> None:
    """A client that cannot run is bad input, and one that spins makes the run invalid."""
    done = harness(*ONE, "--target", target)
    assert done.code == code
    assert said in (done.err if code == 2 else done.out)
    assert len(done.err.splitlines()) == (1 if code == 2 else 0)


def test_corpus_is_described(harness: Harness) -> None:
    """`harness corpus` tells size and repeats, and warns of generated text."""
    done = harness("corpus", "templates8", "--reviews", "100")
    assert done.code == 0
    assert re.search(r"reviews\s+│ 100\b", done.out)
    assert re.search(r"repeats_in_input\s+│ 0\.92\b", done.out)
    assert "looks generated" in done.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_mock_starts_and_stops(tmp_path: Path, number: signal.Signals) -> None:
    """`harness mock` says where it listens, and ends by itself on a signal."""
    bare = ("--no-control", "--quiet")
    with process(tmp_path, "mock", str(CRISIS), "--port", "0", *bare) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("mock_llm listening on http://127.0.0.1:")
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("engine", "reviews", "after"), [("virtual", 20_000, "Batch 20/"), ("live", 400, "Batch 3/")]
)
def test_interrupted_run_keeps_what_was_done(
    tmp_path: Path, engine: str, reviews: int, after: str, number: signal.Signals
) -> None:
    """Ctrl-C or SIGTERM ends a run with 130: what was done is written, and no process is left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    options = ["run", str(CRISIS), "--variant", "after", "--engine", engine, "--corpus"]
    options += ["templates8", "--set", f"workload.reviews={reviews}", "--json", "out.json"]
    options += ["--out", "out", "--set", "upstream.profile.ttft=0.1"]
    with process(tmp_path, *options, environment={"TMPDIR": str(folder)}) as running:
        assert running.stderr is not None
        while not running.stderr.readline().startswith(after):
            assert running.poll() is None
        # Ctrl-C reaches the whole group, SIGTERM one process.
        (os.killpg if number == signal.SIGINT else os.kill)(running.pid, number)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in err
    (run,) = json.loads((tmp_path / "out.json").read_text())["runs"]
    assert run["stopped"] == "interrupted"
    assert [reason for reason in run["invalid_reasons"] if "invariant" in reason] == []
    assert 20 <= run["ok"] < run["requests"] < reviews
    assert run["verdicts"] == {"interrupted": run["requests"] - run["ok"]}
    records = read_jsonl(tmp_path / "out" / f"after-{engine}-1" / "records.jsonl")
    assert records_sha256(records) == run["records_sha256"]
    assert files(folder) == set()
    assert mentioning(str(folder)) == []


def test_interrupt_between_runs_keeps_the_runs_before(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while nothing is running ends the command with what it has."""
    save = experiment.save

    def interrupted(run: Any, folder: Path) -> Path:
        if run.seed == 3:
            raise KeyboardInterrupt
        return save(run, folder)

    monkeypatch.setattr(experiment, "save", interrupted)
    done = harness(*ONE, "--seeds", "1-9", "--json", "-")
    assert done.code == 130
    assert [run["seed"] for run in told(done)["runs"]] == [1, 2]
    assert harness(*ONE, "--seeds", "3-9", "--json", "-")[:2] == (130, "")


def test_reader_that_goes_away_ends_the_command_quietly(tmp_path: Path) -> None:
    """Output into a closed pipe, as under `| head`, is no reason for a traceback."""
    (tmp_path / "s.toml").write_text("[workload]\nreviews = 5\n[upstream]\n")
    with process(tmp_path, "run", "s.toml", "--json", "-") as running:
        assert running.stdout is not None
        running.stdout.close()
        running.stdout = None
        _, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "Traceback" not in err
