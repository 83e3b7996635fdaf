"""The `theory` engine: what it says of scenarios, and what it does not say."""

import json
from math import log
from pathlib import Path
from typing import Any

import pytest
from commands import Harness, in_folder
from runs import ROOT, flown, ready
from test_cli import CONTRACT, PARTS

from harness.corpus.review import Review
from harness.engines.theory.report import answers
from harness.errors import InputError
from harness.scenario.load import load_file
from harness.statistics import interval
from harness.theory.erlang import MMc, erlang_b
from harness.theory.finite import closed, mmck

QUEUE = """\
[workload]
users = 1000
reviews = 50
[upstream.profile]
ttft = { kind = "exponential", mean = 100.0 }
[pipeline]
workers = 5
attempt_timeout_s = "none"
context = "none"
rate_limit = "none"
retries = 0
[slo]
"latency_s.p95" = "<= 500"
[variants.users.workload]
kind = "users"
users = 12
think = 200.0
duration_s = 2e6
[variants.bursty.workload]
kind = "arrivals"
arrivals = { kind = "gamma", rate_per_s = 0.04, cv = 2.0 }
duration_s = 2e6
[variants.queue.workload]
kind = "arrivals"
duration_s = 2e6
arrivals = { kind = "poisson", rate_per_s = 0.04 }
"""
MEAN_S = 100.0005
"""The service time with its mean transit delay."""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """Five workers at 100 s, and an arrival every 25 s."""
    path = tmp_path / "queue.toml"
    path.write_text(QUEUE)
    return path


def said(scenario: Path, *sets: str, variant: str = "queue") -> dict[str, Any]:
    """The report of a variant of the queue."""
    return flown(variant, *sets, engine="theory", scenario=scenario).report


def formula(report: dict[str, Any], name: str) -> dict[str, Any]:
    """What the formula of that name says."""
    (found,) = (one for one in report["theory"] if one["formula"].startswith(name))
    return dict(found)


@pytest.mark.parametrize(
    ("variant", "figure", "value", "scatter"),
    [
        ("sequential", "throughput_per_s", 0.720, 0.01),
        ("sequential", "duration_s", 23.1 * 60, 10.0),
        ("batched", "throughput_per_s", 2.86, 0.08),
        ("snippet", "throughput_per_s", 3.55, 0.12),
        ("after", "throughput_per_s", 4.18, 0.08),
        ("one_gather", "ok", 127, 5),
        ("sequential", "cost_usd", 3.79, 0.005),
    ],
)
def test_the_crisis_in_closed_form(variant: str, figure: str, value: float, scatter: float) -> None:
    """The crisis's four speeds, and what is left of one gather, are what its formulas give."""
    found = flown(variant, engine="theory").report[figure]
    assert found == pytest.approx(value, abs=scatter)


def test_runs_scatter_around_the_theory() -> None:
    """The mean duration of eight runs has the closed form in its interval, with a barrier too."""
    few = "workload.reviews=40"
    for variant in ("sequential", "snippet"):
        runs = [flown(variant, few, seed=seed).report["duration_s"] for seed in range(1, 9)]
        expected = flown(variant, few, engine="theory").report["duration_s"]
        assert interval(runs, 0.99).contains(expected)


def test_an_exponential_queue_is_erlangs(scenario: Path) -> None:
    """Poisson arrivals, exponential service and room enough are M/M/c, percentiles included."""
    report, queue = said(scenario), MMc(0.04, MEAN_S, 5)
    assert report["latency_s"]["mean"] == pytest.approx(queue.sojourn_s)
    assert report["latency_s"]["p95"] == pytest.approx(queue.sojourn_quantile_s(0.95))
    assert report["wait_s"]["mean"] == pytest.approx(queue.wait_s)
    assert report["throughput_per_s"] == 0.04
    assert report["requests"] == pytest.approx(80_000)
    assert formula(report, "M/M/c (")["kind"] == "exact"
    assert report["slo"]["passed"] is True


def test_slots_of_the_provider_are_servers_too(scenario: Path) -> None:
    """Where the provider has fewer slots than there are workers, its queue is the queue."""
    sets = ("pipeline.workers=500", "upstream.capacity.slots=5")
    assert said(scenario, *sets)["latency_s"] == said(scenario)["latency_s"]


def test_a_full_queue_refuses(scenario: Path) -> None:
    """A queue that is met in its end is M/M/c/K; a refusal takes no time and counts as 0 s."""
    sets = ("pipeline.queue.size=5", "workload.arrivals.rate_per_s=0.06")
    report, queue = said(scenario, *sets), mmck(0.06, MEAN_S, 5, 10)
    assert report["rejected"] == pytest.approx(120_000 * queue.lost)
    assert report["throughput_per_s"] == pytest.approx(queue.throughput)
    assert report["latency_ok_s"]["mean"] == pytest.approx(queue.sojourn_s)
    assert report["latency_s"]["mean"] == pytest.approx(queue.sojourn_s * (1 - queue.lost))
    assert report["latency_s"]["p50"] < report["latency_ok_s"]["p50"]
    assert not formula(report, "M/M/c (")["applies"]


def test_without_places_losses_are_erlangs(scenario: Path) -> None:
    """A queue of no places loses Erlang B, and nobody who is served has waited."""
    sets = ("pipeline.queue.size=0", "workload.arrivals.rate_per_s=0.06")
    report = said(scenario, *sets)
    assert report["rejected"] == pytest.approx(120_000 * erlang_b(5, 0.06 * MEAN_S))
    assert report["wait_s"]["mean"] == pytest.approx(0.0, abs=1e-9)
    assert report["latency_ok_s"]["p95"] == pytest.approx(-MEAN_S * log(0.05))


def test_other_laws_are_screened_only(scenario: Path) -> None:
    """What Allen and Cunneen give for bursts is told, and is no figure of the report."""
    report = said(scenario, variant="bursty")
    screened = formula(report, "G/G/c (Allen")
    plain = MMc(0.04, MEAN_S, 5).wait_s
    assert screened["kind"] == "screening"
    assert screened["figures"]["wait_s.mean"] == pytest.approx(plain * 2.5, rel=1e-5)
    assert report["latency_s"]["mean"] is None
    assert report["slo"] == {
        "passed": None,
        "checks": [{"metric": "latency_s.p95", "bound": "<= 500", "value": None, "passed": None}],
    }


def test_one_server_has_pollaczek_and_khinchine(scenario: Path) -> None:
    """With one worker any law of service will do for the mean."""
    sets = ("pipeline.workers=1", "upstream.profile.ttft=20.0")
    report = said(scenario, *sets)
    assert report["wait_s"]["mean"] == pytest.approx(0.8 * 10 / 0.2, rel=1e-3)
    assert report["latency_s"]["p95"] is None


def test_servers_for_all_need_no_queue(scenario: Path) -> None:
    """With fifty workers for four at once latency is service, whatever its law."""
    law = "upstream.profile.ttft={kind='lognormal',mean=100.0,sigma=1.0}"
    report = said(scenario, "pipeline.workers=50", law)
    assert report["latency_s"]["mean"] == pytest.approx(MEAN_S)
    assert report["latency_s"]["p50"] == pytest.approx(100 * 2.718281828**-0.5, rel=1e-4)
    assert formula(report, "M/G/inf")["applies"]


def test_users_are_a_closed_loop(scenario: Path) -> None:
    """Twelve users on five workers are repairmen; on twelve, nobody ever waits."""
    report, queue = said(scenario, variant="users"), closed(12, 200.0, MEAN_S, 5)
    assert report["throughput_per_s"] == pytest.approx(queue.throughput)
    assert report["latency_s"]["p95"] == pytest.approx(queue.sojourn_quantile_s(0.95))
    enough = said(scenario, "pipeline.workers=12", variant="users")
    assert enough["throughput_per_s"] == pytest.approx(12 / (200 + MEAN_S))
    lazy = said(scenario, "workload.think=0.0", variant="users")
    bounds = formula(lazy, "asymptotic")["figures"]
    assert bounds["throughput_per_s_max"] == pytest.approx(5 / MEAN_S)
    assert bounds["throughput_per_s_min"] == pytest.approx(5 / MEAN_S)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("upstream.faults.e={kind='server_error',rate=0.01}", "faults strike"),
        ("upstream.regime={good_s=9.0,bad_s=9.0}", "upstream.regime is set"),
        ("upstream.drift={factors=[1.0,2.0]}", "upstream.drift is set"),
        ("upstream.credits_usd=1.0", "upstream.credits_usd is set"),
        ("upstream.profile.cold_start={extra_s=5.0}", "cold at first"),
        ("upstream.capacity={full_speed=2}", "slows down"),
        ("upstream.throttle={tokens_per_min=9}", "limits tokens"),
        ("upstream.throttle={requests_per_min=2}", "the provider admits 2 a minute, and 2 are"),
        ("pipeline.hedge={}", "pipeline.hedge is set"),
        ("pipeline.adaptive={kind='aimd'}", "pipeline.adaptive is set"),
        ("pipeline.budget={run_usd=1.0}", "pipeline.budget is set"),
        ("pipeline.cache='memory'", "the cache answers repeats"),
        ("pipeline.attempt_timeout_s=200.0", "0.14 of the attempts take longer"),
        ("workload.deadline_s=300.0", "would pass their 300 s"),
        ("workload.duration_s=5000.0", "too short for a steady state"),
        ("workload.arrivals.rate_per_s=0.06", "the load is 1.20 of what can be served"),
        ("upstream.profile.ttft=100.0", "service is not exponential"),
    ],
)
def test_what_a_formula_does_not_know_of_is_named(
    scenario: Path, setting: str, reason: str
) -> None:
    """M/M/c does not apply, says why, and leaves its figures out of the report."""
    report = said(scenario, setting)
    found = formula(report, "M/M/c (")
    assert (found["applies"], reason in found["why"]) == (False, True), found["why"]
    assert report["latency_s"]["p50"] is None


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        (("pipeline.rate_limit=20",), "users may ask 20 times a minute, and 25 come"),
        (("pipeline.job_deadline_s=240.0",), "the job has 240 s and takes about 239 s"),
        (("pipeline.deadline_s=40.0",), "a deadline of their own"),
        (("workload.reviews=6",), "too few calls for each slot"),
    ],
)
def test_what_a_batch_does_not_fit_is_named(sets: tuple[str, ...], reason: str) -> None:
    """A job that some limit meets has no closed form, but still its bound."""
    report = flown("after", *sets, engine="theory").report
    bound, served = report["theory"]
    assert (served["applies"], reason in served["why"]) == (False, True), served["why"]
    assert bound["applies"]
    assert report["duration_s"] is None


def test_useful_depth_and_the_vulnerable_band(scenario: Path) -> None:
    """Callers who are impatient, or come again, are told of what threatens them."""
    report = said(scenario, "workload.deadline_s=600.0", "pipeline.retries=1")
    assert formula(report, "useful")["figures"]["useful_depth"] == pytest.approx(25, abs=0.01)
    assert "0.04/s is inside" in formula(report, "vulnerable")["why"]
    assert formula(report, "M/M/c+D")["figures"]["timeout_rate"] < 0.01


def test_a_sum_of_random_times_has_moments_only() -> None:
    """Tokens at random intervals give a mean and no percentile, and only what the mean says."""
    sets = ("upstream.profile.itl={kind='exponential',mean=0.01}",)
    report = flown("after", *sets, engine="theory").report
    bound, served = report["theory"]
    assert bound["figures"]["throughput_per_s_max"] == pytest.approx(5 / (1.1905 + 0.14))
    assert not served["applies"]


@pytest.mark.parametrize("path", sorted((ROOT / "scenarios").glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_scenario_has_an_answer(path: Path) -> None:
    """Each variant gets a formula that applies or says why not; no figure is infinite."""
    for name in load_file(path).names("all"):
        told = answers(ready(name, "workload.reviews=50", scenario=path))
        assert told
        assert all(one.why for one in told)


@pytest.fixture
def harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Harness:
    """`harness ...` in a folder with `small.toml`."""
    return in_folder(tmp_path, monkeypatch, capsys)


def test_the_command_prints_formulas_and_nulls(harness: Harness) -> None:
    """`--engine theory` ends with 0 where nothing is against a promise; the JSON has every key."""
    done = harness("run", "small.toml", "--engine", "theory", "--json", "-")
    document = json.loads(done.out)
    kept, broken = document["runs"]
    assert (done.code, document["headline"], document["lessons"]) == (0, None, [])
    assert kept.keys() >= CONTRACT
    assert all(kept[name].keys() >= parts for name, parts in PARTS.items())
    assert kept["duration_s"] == pytest.approx(1.0, abs=0.02)
    assert (kept["slo"]["passed"], broken["slo"]["passed"]) == (True, False)
    assert kept["records_sha256"] is None
    assert "c / E[S]" in done.err


def test_the_command_fails_where_theory_knows_better(harness: Harness) -> None:
    """A promise that no formula can keep ends with 1, before anything was run."""
    done = harness("run", "small.toml", "--engine", "theory", "--set", "slo.duration_s='<= 0.9'")
    assert done.code == 1
    assert "missed" in done.out


def test_a_client_of_ones_own_is_none_of_theorys_business() -> None:
    """A target cannot be run by theory, which says so."""

    async def client(review: Review, base_url: str) -> object:
        return None

    with pytest.raises(InputError, match="theory runs no client"):
        flown("after", engine="theory", target=client)
