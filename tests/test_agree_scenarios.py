"""Every shipped scenario, smaller: the twin and the code agree on all of it, to the last row."""

import json
from pathlib import Path

import pytest
from commands import in_folder
from runs import ROOT, ready

from harness.experiments.agree import agreements
from harness.experiments.run import run_one
from harness.scenario.load import load_file

SHIPPED = sorted((ROOT / "scenarios").glob("*.toml"))
SMALLER = {
    "metastability": ("duration_s=6", "arrivals.at_s=2", "arrivals.for_s=1.5"),
    "overload": ("duration_s=8", "reviews=500"),
    "scale_users": ("users=100", "duration_s=12", "reviews=500"),
    "thousand_users": ("duration_s=15", "reviews=500"),
}
BATCH, USERS, ARRIVALS = ("reviews=80",), ("duration_s=20", "ramp_s=0"), ("duration_s=20",)
"""What makes any other scenario smaller."""


def smaller(path: Path) -> list[str]:
    """Settings that leave as much of a scenario as tells something."""
    kind = load_file(path).written.workload.kind
    others = {"batch": BATCH, "users": USERS, "arrivals": ARRIVALS}[kind]
    return [f"workload.{key}" for key in SMALLER.get(path.stem, others)]


@pytest.mark.parametrize(
    ("path", "variant"),
    [
        pytest.param(path, variant, id=f"{path.stem}-{variant}")
        for path in SHIPPED
        for variant in load_file(path).names()
    ],
)
def test_engines_agree_on_it(path: Path, variant: str) -> None:
    """Requests, outcomes, labels and every time are equal, digit by digit."""
    prepared = ready(variant, *smaller(path), scenario=path)
    runs = [
        run_one(prepared, variant=variant, expect="pass", engine=engine, seed=1)
        for engine in ("sim", "virtual")
    ]
    (found,) = agreements(runs)
    assert len(runs[1].result.records) > 0
    assert found.first_difference is None
    assert found.agreed
    assert runs[0].report["records_sha256"] == runs[1].report["records_sha256"]


def test_the_command_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`harness agree` exits 0 where all agree, and says by which witnesses."""
    harness = in_folder(tmp_path, monkeypatch, capsys)
    done = harness("agree", "small.toml", "--variant", "kept")
    assert done.code == 0
    assert "2 of 2 comparisons agree" in done.out
    assert "cannot see" in " ".join(done.out.split())
    document = json.loads(harness("agree", "small.toml", "--variant", "kept", "--json", "-").out)
    pairs = [(one["left"], one["right"]) for one in document["agreement"]]
    assert pairs == [("sim", "virtual"), ("theory", "sim")]


@pytest.mark.parametrize(
    ("engines", "line"),
    [
        ("virtual", "no two to compare"),
        ("sim,warp", "no such engine"),
        ("real,virtual", "weather of its own"),
        ("theory,live", "no two to compare"),
    ],
)
def test_engines_that_cannot_be_compared(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    engines: str,
    line: str,
) -> None:
    """Engines that are none, or no pair, are refused in one line before anything is run."""
    harness = in_folder(tmp_path, monkeypatch, capsys)
    done = harness("agree", "small.toml", "--engines", engines)
    assert (done.code, done.out) == (2, "")
    assert line in done.err
    assert done.err.count("\n") == 1
