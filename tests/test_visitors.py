"""Users and arrivals over the service's HTTP: once on the virtual clock, once for real."""

from pathlib import Path
from typing import Any

import pytest

from harness.engines.certificate import Certificate
from harness.experiments.run import Run, prepare_variant, run_one
from harness.records import requests
from harness.scenario.load import load_file
from harness.workload import kinds, schedule

USERS = """
[workload]
kind = "users"
users = 20
reviews = 200
duration_s = 6.0
deadline_s = 20.0
ramp_s = 1.0
think = { kind = "exponential", mean = 1.0 }
[upstream.profile]
ttft = { kind = "lognormal", mean = 0.3, sigma = 0.4 }
[pipeline]
workers = 10
context = "none"
"""
ARRIVALS = USERS.replace(
    'kind = "users"', 'kind = "arrivals"\narrivals = { kind = "poisson", rate_per_s = 20.0 }'
).replace('ramp_s = 1.0\nthink = { kind = "exponential", mean = 1.0 }\n', "")


def flown(folder: Path, text: str, *changes: str, engine: str = "virtual") -> Run:
    """One run of a scenario."""
    path = folder / "s.toml"
    path.write_text(text)
    file = load_file(path, list(changes), "base")
    prepared = prepare_variant(file, "base", folder)
    return run_one(prepared, variant="base", expect="pass", engine=engine, seed=1)


def certified(folder: Path, text: str, attempts: int = 5) -> Run:
    """The first live run that its certificate calls VALID, else the last one."""
    for _ in range(attempts):
        run = flown(folder, text, engine="live")
        if run.report["valid"]:
            break
    return run


def figures(run: Run) -> dict[str, Any]:
    """What two engines have to agree on."""
    report = run.report
    assert report["valid"], report["invalid_reasons"]
    assert report["ok"] == report["requests"] > 50
    return {"mean": report["latency_s"]["mean"], "per_s": report["throughput_per_s"]}


@pytest.mark.parametrize("text", [USERS, ARRIVALS], ids=["users", "arrivals"])
def test_runs_repeat(tmp_path: Path, text: str) -> None:
    """The same seed gives the same rows, and another seed gives others."""
    one, two = (flown(tmp_path, text).report["records_sha256"] for _ in range(2))
    path = tmp_path / "s.toml"
    prepared = prepare_variant(load_file(path, [], "base"), "base", tmp_path)
    other = run_one(prepared, variant="base", expect="pass", engine="virtual", seed=2)
    assert one == two != other.report["records_sha256"]


def test_arrivals_come_when_they_were_meant_to(tmp_path: Path) -> None:
    """The schedule is made before the run, and every request is measured from it."""
    run = flown(tmp_path, ARRIVALS)
    meant = schedule(run.prepared.scenario.workload, 1)
    rows = [one[0] for one in requests(run.result.records)]
    assert [row.t_intended for row in rows] == pytest.approx(meant)
    assert [row.t_queued for row in rows] == pytest.approx(meant, abs=1e-6)


def test_users_are_in_a_closed_loop(tmp_path: Path) -> None:
    """By Little's law 20 users who think for 1 s and wait for R s ask 20 / (R + 1) per second."""
    run = flown(tmp_path, USERS, "workload.duration_s=300", "workload.think=1.0")
    report = run.report
    rate = report["requests"] / 300
    assert rate == pytest.approx(20 / (report["latency_s"]["mean"] + 1.0), rel=0.01)
    assert {row.user for row in run.result.records} == {f"u{n}" for n in range(20)}


def test_labels_are_judged_by_the_text(tmp_path: Path) -> None:
    """The mock knows the truth of a review whatever its request is called."""
    assert flown(tmp_path, USERS).report["accuracy"]["value"] > 0.8


@pytest.mark.wall_clock
@pytest.mark.parametrize("text", [USERS, ARRIVALS], ids=["users", "arrivals"])
def test_live_agrees_with_virtual(tmp_path: Path, text: str) -> None:
    """On the wall clock the same users meet the same weather, within 5 % and a few milliseconds."""
    virtual, live = figures(flown(tmp_path, text)), figures(certified(tmp_path, text))
    assert live["mean"] == pytest.approx(virtual["mean"], rel=0.05, abs=0.01)
    assert live["per_s"] == pytest.approx(virtual["per_s"], rel=0.05)


def test_a_generator_that_lags_voids_the_run() -> None:
    """Requests that were sent late by more than the bound make the figures worth nothing."""
    late = Certificate.of([0.0], 0.0, [], [0.0] * 50 + [0.2] * 50)
    assert late.reasons() == ("requests were sent late: p99 200 ms > 50 ms",)
    assert Certificate.of([0.0], 0.0, [], [0.001] * 100).reasons() == ()


def test_a_target_takes_batches_only(tmp_path: Path) -> None:
    """A client of one's own has no place where the service stands."""
    path = tmp_path / "s.toml"
    path.write_text(USERS)
    prepared = prepare_variant(load_file(path, [], "base"), "base", tmp_path)

    async def target(*_: object) -> None:
        """Never called."""

    with pytest.raises(Exception, match="takes a batch"):
        run_one(prepared, variant="base", expect="pass", engine="virtual", seed=1, target=target)


def test_users_without_a_thought_come_back_when_they_are_told_to(tmp_path: Path) -> None:
    """Refusals take no time; who is refused waits as told, and the clock goes on."""
    changes = ("workload.think=0", "pipeline.rate_limit=10", "workload.duration_s=130")
    run = flown(tmp_path, USERS, *changes)
    report = run.report
    assert report["valid"], report["invalid_reasons"]
    assert report["ok"] == 20 * 10 * 3  # in each of the minutes that have begun
    assert report["rejected"] <= report["ok"]  # in a sliding window each may wait for its own


def test_users_of_every_kind_do_what_they_do(tmp_path: Path) -> None:
    """Batches are looked after to their end, streams are in no row, abusers go past their limit."""
    mix = "workload.mix={reviewer=0.4,batch=0.2,stream=0.2,abuser=0.2,batch_reviews=3}"
    run = flown(tmp_path, USERS, mix, "pipeline.rate_limit=20")
    assert run.report["valid"], run.report["invalid_reasons"]
    of = {name: [r for r in run.result.records if r.user == f"u{name}"] for name in range(20)}
    found = kinds(run.prepared.scenario.workload)
    for user, kind in enumerate(found):
        keys = {row.key for row in of[user]}
        batches = {key.partition(".")[0] for key in keys if key.startswith("b")}
        assert len(keys) == 3 * len(batches) if kind == "batch" else not batches
        assert bool(keys) == (kind != "stream")
    refused = {name for name, rows in of.items() if any(r.error == "rate_limit" for r in rows)}
    assert refused == {user for user, kind in enumerate(found) if kind == "abuser"}
