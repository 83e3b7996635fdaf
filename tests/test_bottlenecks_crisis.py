"""The timeout crisis end to end: its causes are found by what runs did, never by their names."""

import re
from pathlib import Path

import pytest

from harness.bottlenecks import connection_cost_s
from harness.experiments.compare import explain_connections
from harness.experiments.run import Run, prepare_variant, run_one
from harness.report.headline import best_of, headline, lessons
from harness.scenario.load import load_file

CRISIS = Path(__file__).parents[1] / "scenarios" / "timeout_crisis.toml"
NAMES = {name: f"v{n}" for n, name in enumerate(load_file(CRISIS).names(), 1)}


def _renamed(text: str) -> str:
    """The scenario or a report with every variant's name replaced by v1, v2, ..."""
    names = "|".join(sorted(NAMES, key=len, reverse=True))
    return re.sub(
        rf'(?m)((?<=^\[variants\.)|(?<=^like = ")|^)({names})\b',
        lambda found: NAMES[found[2]],
        text,
    )


def _all_runs(scenario: Path) -> list[Run]:
    file = load_file(scenario, ["workload.reviews=200"])
    runs = [
        run_one(
            prepare_variant(file, name),
            variant=name,
            expect=file.variant(name).expect,
            engine="virtual",
            seed=1,
        )
        for name in file.names()
    ]
    explain_connections(runs)
    return runs


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    """The crisis at 200 reviews, all variants under their own names."""
    return _all_runs(CRISIS)


@pytest.fixture(scope="module")
def nameless(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """The same scenario with its variants called v1 to v8 and nothing said about them."""
    text = _renamed(CRISIS.read_text())
    text = re.sub(r'(?m)^(about|claim) = ".*"$', "", text)
    path = tmp_path_factory.mktemp("nameless") / "scenario.toml"
    path.write_text(text)
    return _all_runs(path)


def test_the_crisis_is_seen_without_names(nameless: list[Run]) -> None:
    """Barrier, unacquired semaphore and slot inside the limit are found by what they did."""
    reports = [run.report for run in nameless]
    assert [report["variant"] for report in reports] == list(NAMES.values())
    told = dict(line.split(": ", 1) for line in lessons(reports))
    assert best_of(reports) == NAMES["after"]
    assert told[NAMES["batched"]].startswith("the barrier: ")
    assert told[NAMES["snippet"]].startswith("the semaphore of 5 is never acquired: 10 calls")
    assert told[NAMES["one_gather"]].startswith("the slot is awaited inside the time limit: ")
    assert told[NAMES["before_storm"]].endswith("and nothing timed it out")
    assert told[NAMES["sequential"]] == "one call at a time"
    assert headline(reports).startswith(f"{NAMES['after']} is the best at ")
    assert "what holds it back: its 5 slots" in headline(reports)


def test_names_change_nothing_but_names(runs: list[Run], nameless: list[Run]) -> None:
    """Headline and lessons of the renamed runs are those of the others with other names."""
    named, renamed = ([run.report for run in some] for some in (runs, nameless))
    assert headline(renamed) == _renamed(headline(named))
    assert lessons(renamed) == [_renamed(line) for line in lessons(named)]
    assert [run.bottlenecks for run in nameless] == [run.bottlenecks for run in runs]


def test_the_crisis_finds_what_each_variant_has(runs: list[Run]) -> None:
    """The causes of every variant are the ones that it was built with, the costliest first."""
    found = {run.variant: [bottleneck.cause for bottleneck in run.bottlenecks] for run in runs}
    assert found == {
        "sequential": ["serial", "connections"],
        "batched": ["barrier"],
        "snippet": ["semaphore_not_acquired", "barrier"],
        "after": ["slots"],
        "one_gather": ["slot_inside_limit"],
        "before_storm": ["job_deadline", "no_time_limit", "serial", "connections"],
        "after_storm": ["limit_too_long", "server_errors"],
        "first_day": ["serial", "warming_up", "connections"],
    }


def test_a_connection_costs_what_the_provider_charges(runs: list[Run]) -> None:
    """Held against a pooled run in the same weather, a new connection is worth 0.2 s a call."""
    by_name = {run.variant: run for run in runs}
    cost_s = connection_cost_s(
        by_name["sequential"].result.records, by_name["after"].result.records
    )
    assert cost_s == pytest.approx(0.2, abs=1e-6)
    (told,) = (f for f in by_name["sequential"].bottlenecks if f.cause == "connections")
    assert re.fullmatch(
        r"200 connections for 200 calls: 0.20 s each, 1\d.\d% of its time", told.text
    )
    assert by_name["sequential"].report["bottlenecks"][1]["text"] == told.text
    assert told.lost == pytest.approx(0.14, abs=0.02)
