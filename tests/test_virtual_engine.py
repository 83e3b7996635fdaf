"""The virtual engine: exact, repeatable, the same weather for all, an end to what would hang."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import CRISIS, REAL, REPEATING, flown, ready, real_data

from harness.engines.virtual import run_on_virtual_clock
from harness.experiments.run import Run
from harness.records import Record, requests

ALL_5K = "workload.reviews=5000"
UNLIMITED = "pipeline.rate_limit=none"
HANGS = 'upstream.faults.hangs={kind="hang_before_headers",rate=0.02}'


def digest(variant: str, *sets: str, seed: int = 1) -> str:
    """The run's digest of its records."""
    return str(flown(variant, *sets, seed=seed).report["records_sha256"])


@pytest.mark.parametrize(
    ("variant", "concurrency"),
    [("after_storm", 5), ("after_storm", 200), ("snippet", 5), ("one_gather", 5)],
)
def test_run_repeats_itself(variant: str, concurrency: int) -> None:
    """Four runs in one process have the same records, at two hundred calls at once as well."""
    sets = ("workload.reviews=300", f"pipeline.concurrency={concurrency}", UNLIMITED)
    assert len({digest(variant, *sets) for _ in range(4)}) == 1


def test_seeds_are_different_weather() -> None:
    """Another seed gives other records, though nothing but the provider's times be random."""
    assert len({digest("after", "workload.reviews=40", seed=seed) for seed in range(6)}) == 6


def test_seeds_are_different_jitter() -> None:
    """The waits between attempts are drawn from the run's seed too."""
    sick = 'upstream.faults.sick={kind="server_error",rate=0.5,status=503}'

    def waits(seed: int) -> set[float]:
        run = flown("after", "workload.reviews=40", sick, seed=seed)
        by_request = requests(run.result.records)
        pairs = [pair for rows in by_request for pair in pairwise(rows)]
        return {round(after.t_queued - before.t_end, 6) for before, after in pairs}

    assert len(waits(1)) > 20
    assert waits(1) & waits(2) == set()


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_another_process_gives_the_same_records(tmp_path: Path, hash_seed: str) -> None:
    """Neither the process nor PYTHONHASHSEED matters."""
    sets = ("workload.reviews=100", "pipeline.concurrency=50", "pipeline.cache=memory")
    command = [sys.executable, "-c", "from harness.cli.main import main; main()", "run"]
    command += [str(CRISIS), "--variant", "after_storm", "--json", "-", "--seed", "3"]
    done = subprocess.run(
        command + [word for setting in sets for word in ("--set", setting)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    there = json.loads(done.stdout)["runs"][0]["records_sha256"]
    assert there == digest("after_storm", *sets, seed=3)


def met(records: list[Record]) -> dict[str, list[tuple[int | None, float | None]]]:
    """Request key -> what its admitted attempts met in turn: status, seconds until the answer.

    A refusal for too many requests draws no weather; a new connection takes 0.2 s of its own.
    """
    found = defaultdict(list)
    for row in sorted(records, key=lambda row: row.attempt):
        if row.status != 429 and row.t_sent is not None:
            setup = 0.2 if row.new_connection else 0.0
            took = None if row.t_last_token is None else row.t_last_token - row.t_sent - setup
            found[row.key].append((row.status, took and round(took, 6)))
    return found


@cache
def storm() -> dict[str, list[tuple[int | None, float | None]]]:
    """What the shipped variant's own requests met."""
    return met(flown("after_storm", "workload.reviews=60").result.records)


@given(
    concurrency=st.integers(1, 60),
    barrier=st.booleans(),
    slot=st.sampled_from(["before_timeout", "never"]),
    pool=st.booleans(),
    router=st.sampled_from(["smart", "legacy"]),
)
@settings(max_examples=12, deadline=None)
def test_variants_meet_the_same_weather(
    concurrency: int, barrier: bool, slot: str, pool: bool, router: str
) -> None:
    """Whatever the order and the concurrency, a request meets the same answers, one by one."""
    sets = {
        "workload.reviews": 60,
        "pipeline.concurrency": concurrency,
        "pipeline.barrier": str(barrier).lower(),
        "pipeline.slot": slot,
        "pipeline.pool": str(pool).lower(),
        "pipeline.router.kind": router,
    }
    run = flown("after_storm", *(f"{key}={value}" for key, value in sets.items()))
    here = met(run.result.records)
    assert here.keys() == storm().keys()
    for key, answers in here.items():
        both = list(zip(answers, storm()[key], strict=False))
        assert both
        for mine, theirs in both:
            assert mine[0] == theirs[0]
            assert mine[1] == pytest.approx(theirs[1], abs=2e-6)


def test_a_hang_without_any_limit_is_named_and_invalid() -> None:
    """A run that would wait for ever ends at once, says who waits since when, and is invalid."""
    run = flown("sequential", HANGS, "workload.reviews=200")
    last = max(run.result.records, key=lambda row: row.t_end)
    assert run.result.stopped == "never_answered"
    assert run.report["valid"] is False
    waiting = f"{last.key} has waited for an answer since {last.t_sent:.1f} s"
    assert run.report["invalid_reasons"] == [f"nothing can ever wake again: {waiting}"]
    assert (last.error, last.outcome, last.t_first_token) == ("never_answered", "failed", None)
    assert run.report["ok"] == len(run.result.records) - 1 < 199
    assert run.report["verdicts"] == {"no_first_token": 1}


def test_a_hang_under_a_job_deadline_is_a_failed_job() -> None:
    """With a deadline of the job the same run is valid: all its requests timed out."""
    run = flown("sequential", HANGS, "workload.reviews=200", "pipeline.job_deadline_s=600")
    assert (run.report["valid"], run.result.stopped) == (True, "job_deadline")
    assert run.report["timed_out"] == 200
    assert run.report["duration_s"] == 600.0
    assert sum(run.report["verdicts"].values()) == 200
    assert run.report["verdicts"]["no_first_token"] == 1


def test_many_hangs_at_once_are_counted_beyond_the_first_three() -> None:
    """Of many that wait the report names three and counts the others."""
    run = flown(
        "after",
        "workload.reviews=40",
        "pipeline.attempt_timeout_s=none",
        "pipeline.retries=0",
        'upstream.faults.hangs={kind="hang_before_headers",rate=1.0}',
    )
    reason = run.report["invalid_reasons"][0]
    assert [name for name in ("r000000", "r000001", "r000002") if name in reason] == [
        "r000000",
        "r000001",
        "r000002",
    ]
    assert reason.endswith(" and 2 more")


def test_result_says_that_cpu_costs_nothing() -> None:
    """The note is in every virtual report."""
    notes = flown("after", "workload.reviews=10").report["notes"]
    assert notes == ["no CPU cost is modelled: the virtual clock counts waiting only"]


def test_progress_is_told_batch_by_batch() -> None:
    """Every tenth completion is reported with its dollars, the last time for the rest."""
    told: list[tuple[int, int, int]] = []
    run_on_virtual_clock(
        ready("after", "workload.reviews=25"),
        seed=1,
        on_progress=lambda now: told.append((now.batch, now.batches, now.reviews)),
    )
    assert told == [(1, 3, 10), (2, 3, 20), (3, 3, 25)]


@real_data
def test_real_reviews_do_not_repeat_themselves() -> None:
    """The 5,000 real reviews have no exact repeats and nothing that looks generated."""
    guards = ready("after", f"workload.corpus={json.dumps(str(REAL))}", ALL_5K).corpus.guards
    assert (guards.repeats_in_input, guards.warnings) == (0.0, ())


@real_data
@pytest.mark.parametrize(("router", "dearer"), [("smart", False), ("legacy", True)])
def test_real_reviews_cost_more_than_the_baseline_by_the_legacy_router_alone(
    router: str, dearer: bool
) -> None:
    """On real reviews the smart router stays under the baseline, and the legacy one is above it."""
    corpus = f"workload.corpus={json.dumps(str(REAL))}"
    report = flown("after", corpus, f"pipeline.router.kind={router}").report
    assert report["ok"] == 1000
    assert report["corpus"]["name"] == REAL.name
    assert (report["cost_usd"] > report["baseline_cost_usd"]) is dearer
    assert (report["cost_reduction"] < 0) is dearer


def hits(run: Run) -> tuple[float, float]:
    """Share of hits, and of repeats in the input."""
    cache = run.report["cache"]
    assert cache["lookups"] == run.report["requests"]
    return cache["hit_rate"], cache["repeats_in_input"]


@real_data
@pytest.mark.parametrize(
    ("variant", "concurrency"), [("after", 5), ("batched", 5), ("after", 20), ("snippet", 5)]
)
def test_cache_hits_what_repeats_in_real_text(variant: str, concurrency: int) -> None:
    """On a corpus that repeats itself hits are repeats to a point, whatever runs at once."""
    rate, repeats = hits(
        flown(
            variant,
            f"workload.corpus={json.dumps(str(REPEATING))}",
            f"pipeline.concurrency={concurrency}",
            "pipeline.cache=memory",
        )
    )
    assert repeats == pytest.approx(0.59, abs=0.01)
    assert rate == pytest.approx(repeats, abs=0.01)


def test_templates_hit_nearly_always_and_are_warned_of() -> None:
    """Eight templates in 1,000 give 99.2 % hits, and the report warns that it means nothing."""
    run = flown("after", "workload.corpus=templates8", "pipeline.cache=memory")
    assert hits(run) == (0.992, 0.992)
    assert run.report["attempts"] == 8
    warnings = run.report["corpus"]["warnings"]
    assert [warning.split(":")[0] for warning in warnings] == ["looks generated"] * 2
