"""`harness report` and `harness compare`: runs that were written down, told of again."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from commands import Done, Harness, files, in_folder
from hypothesis import given
from hypothesis import strategies as st
from load_worlds import certificate, counts_of, flown, world
from rich.console import Console
from rows import served

from harness.experiments.kept import Kept, read_runs
from harness.experiments.run import save
from harness.experiments.sides import compared
from harness.records import records_sha256, write_jsonl
from harness.report.cases import cases_of
from harness.report.load_test import told
from loadtests.results import run_of_test

KEPT, BROKEN = "out/kept-virtual-1", "out/broken-virtual-1"


@pytest.fixture
def harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Harness:
    """A folder in which the small scenario has been run."""
    run = in_folder(tmp_path, monkeypatch, capsys)
    ended = run("run", "small.toml", "--out", "out", "--json", "all.json")
    assert ended.code == 0, ended.err
    Path("said.txt").write_text(ended.out)
    return run


def figures(ended: Done) -> dict[str, dict[str, Any]]:
    """Of a comparison, by name."""
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)["comparison"]["figures"]
    return {one["metric"]: one for one in found}


def test_a_report_is_what_the_run_has_said(harness: Harness) -> None:
    """Of all runs it is table, headline and notes to the letter; of one the same of that one."""
    again, one = harness("report", "all.json"), harness("report", KEPT)
    assert (again.code, one.code) == (0, 0)
    assert again.out.splitlines()[0].startswith("small · seed 1")
    assert again.out in Path("said.txt").read_text()
    assert "kept keeps its promises" in one.out
    assert "broken" not in one.out
    document = json.loads(harness("report", KEPT, "--json", "-").out)
    assert document["runs"] == [json.loads(Path(KEPT, "run.json").read_text())]


def test_a_load_test_is_told_as_it_was(harness: Harness, tmp_path: Path) -> None:
    """Promises, counts and certificate are those that Locust's own end printed."""
    one = world()
    run = run_of_test(flown(one), certificate(), counts_of(one))
    place = save(run, tmp_path / "tests")
    console = Console(file=StringIO(), width=200, highlight=False)
    for part in told(run.report, cases_of(run.report)):
        console.print(part)
    assert isinstance(console.file, StringIO)
    assert harness("report", str(place)).out == console.file.getvalue()


def test_claims_are_kept_with_the_run(harness: Harness) -> None:
    """What a variant claims is beside its figures when the scenario is not at hand."""
    Path("small.toml").write_text(
        Path("small.toml").read_text().replace("[variants.kept]", '[variants.kept]\nclaim = "9/s"')
    )
    harness("run", "small.toml", "--variant", "kept", "--out", "out")
    Path("small.toml").unlink()
    assert "9/s" in harness("report", KEPT).out


def test_a_run_is_equal_to_itself(harness: Harness) -> None:
    """Every difference is 0, and its requests are paired one by one."""
    found = figures(harness("compare", KEPT, KEPT, "--json", "-"))
    assert {one["difference"] for one in found.values()} == {0.0}
    paired = found["latency_s of a request"]
    assert (paired["right_is"], paired["n"]) == ("equal", 20)


def test_promises_and_figures_stand_side_by_side(harness: Harness) -> None:
    """The table has both runs, which promise was missed, and ends with 0 though one is worse."""
    ended = harness("compare", KEPT, BROKEN)
    assert ended.code == 0
    assert "kept virtual" in ended.out
    assert "duration_s <= 0.5" in ended.out
    assert "throughput_per_s" in ended.out


def test_seeds_are_compared_in_pairs(harness: Harness) -> None:
    """Twice the slots are better beyond chance on the seeds of both; on other seeds nobody says."""
    for name, seeds, slots in (("a", "1-4", 1), ("b", "1-4", 2), ("c", "5-8", 2)):
        sets = [
            "--set",
            f"pipeline.concurrency={slots}",
            "--seeds",
            seeds,
            "--json",
            f"{name}.json",
        ]
        wild = ["--set", "upstream.profile.ttft={kind='uniform',low=0.1,high=0.3}"]
        assert harness("run", "small.toml", "--variant", "kept", *sets, *wild).code == 0
    found = figures(harness("compare", "a.json", "b.json", "--json", "-"))
    speed = found["throughput_per_s"]
    assert (speed["right_is"], speed["n"]) == ("better", 4)
    assert 0 < speed["half_width_95"] < speed["difference"]
    assert found["ok"]["right_is"] == "equal"
    other = harness("compare", "a.json", "c.json")
    assert "the seeds differ" in other.out
    assert "better" not in other.out


def kept(folder: Path, name: str, times: list[float]) -> Kept:
    """A run whose requests took so long, as its folder has it."""
    rows = served(times, slots=1)
    report = json.loads((folder / "run.json").read_text())
    place = folder.parent / name
    place.mkdir(exist_ok=True)
    write_jsonl(rows, place / "records.jsonl")
    report["records_sha256"] = records_sha256(rows)
    (place / "run.json").write_text(json.dumps(report))
    return read_runs(place)


def answer(folder: Path, gaps: Callable[[int], float]) -> dict[str, Any]:
    """What is concluded of 100 requests that took so much longer on the right."""
    left = kept(folder, "left", [1.0] * 100)
    right = kept(folder, "right", [1.0 + gaps(n) for n in range(100)])
    found = compared(left, right)["figures"]
    return next(dict(one) for one in found if one["metric"] == "latency_s of a request")


@pytest.mark.usefixtures("harness")
def test_requests_that_share_a_queue_are_no_trials() -> None:
    """A drift along the run is inconclusive where requests as trials would call it worse."""
    folder = Path(KEPT)
    steady = answer(folder, lambda n: 0.1 + 0.01 * (n % 3))
    assert steady["right_is"] == "worse"
    assert steady["difference"] == pytest.approx(0.11, abs=1e-3)
    assert answer(folder, lambda n: 0.05 * (-1) ** n)["right_is"] == "inconclusive"
    drift = answer(folder, lambda n: 0.01 * n - 0.4)
    assert (drift["right_is"], drift["half_width_95"]) == ("inconclusive", None)
    first = answer(folder, lambda n: 0.0 if n < 5 else 0.2)
    assert first["right_is"] == "worse"


@given(st.lists(st.floats(0.001, 9.0), min_size=1, max_size=80))
def test_the_answer_does_not_depend_on_the_side(times: list[float]) -> None:
    """What is better from the left is worse from the right, by the same difference."""
    report = {
        "scenario": "s",
        "variant": "v",
        "engine": "e",
        "seed": 1,
        "valid": True,
        "invalid_reasons": [],
        "verdicts": {},
        "slo": {"passed": True, "checks": []},
    }
    several = [{**report, "seed": n, "throughput_per_s": t} for n, t in enumerate(times)]
    others = [{**one, "throughput_per_s": 1.0} for one in several]
    sides = Kept(Path("a"), several, []), Kept(Path("b"), others, [])
    there, back = (compared(*pair)["figures"][0] for pair in (sides, sides[::-1]))
    mirrored = {"better": "worse", "worse": "better"}
    assert there["difference"] == pytest.approx(-back["difference"])
    assert mirrored.get(there["right_is"], there["right_is"]) == back["right_is"]


def test_mistakes_are_one_line(harness: Harness, tmp_path: Path) -> None:
    """What is no run, torn, missing or of something else is told in a line, with exit code 2."""
    for name in ("torn", "cut", "none", "other"):
        Path(name).mkdir()
        for part in ("run.json", "records.jsonl"):
            Path(name, part).write_bytes(Path(KEPT, part).read_bytes())
    rows = Path(KEPT, "records.jsonl").read_bytes()
    Path("torn/records.jsonl").write_bytes(rows[:-20])
    Path("cut/records.jsonl").write_bytes(b"".join(rows.splitlines(keepends=True)[:-1]))
    Path("none/records.jsonl").unlink()
    other = Path("other/run.json").read_text().replace('"scenario": "small"', '"scenario": "x"')
    Path("other/run.json").write_text(other)
    Path("bare").mkdir()
    Path("half.json").write_text(Path("all.json").read_text()[:99])
    Path("wrong.json").write_text('{"runs": [{"scenario": "small"}]}')
    Path("empty.json").write_text('{"runs": []}')
    mistakes = {
        ("report", "nowhere"): "nowhere: cannot be read: No such file",
        ("report", "out"): "has 2 runs in it: name one, such as out/broken-virtual-1",
        ("report", "bare"): "has no run.json",
        ("report", "half.json"): "half.json: torn, or no JSON",
        ("report", "wrong.json"): "missing required field `variant`",
        ("report", "empty.json"): "empty.json: has no runs in it",
        ("report", KEPT, "--json", "nowhere/x.json"): "--json nowhere/x.json",
        ("compare", KEPT, "torn"): "torn: has rows that are torn",
        ("compare", KEPT, "cut"): "is not of the same run as run.json",
        ("compare", KEPT, "none"): "none/records.jsonl: cannot be read",
        ("compare", KEPT, "other"): "other of 'x': name two of one",
        ("compare", KEPT, "all.json"): "has several runs, kept virtual, broken virtual",
    }
    before = files(tmp_path)
    for words, what in mistakes.items():
        ended = harness(*words)
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
        assert what in ended.err
    assert files(tmp_path) == before
