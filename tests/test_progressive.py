"""Growing a job: stop rules, the READY table, and forecasts that come true."""

import json
import math
import random
from pathlib import Path

import pytest
from commands import Harness, files, in_folder
from hypothesis import given
from hypothesis import strategies as st
from runs import CRISIS, flown

from harness.experiments.progressive import Forecast, forecast
from harness.records import Record


@pytest.fixture
def harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Harness:
    """`harness ...` in a folder of its own."""
    return in_folder(tmp_path, monkeypatch, capsys)


def row(n: int, t_end: float, usd: float = 0.001, outcome: str = "ok") -> Record:
    """The only attempt of request `n`."""
    return Record(
        key=f"r{n:06d}",
        attempt=1,
        t_intended=0.0,
        t_queued=0.0,
        t_end=t_end,
        outcome=outcome,  # type: ignore[arg-type]
        cost_usd=usd,
    )


def test_a_run_as_regular_as_a_clock_is_foretold_to_the_digit() -> None:
    """One request a second for a tenth of a cent each: 5,000 take 5,000 s and $5, and no more."""
    (told,), skipped = forecast([row(n, n + 1.0) for n in range(100)], [5000])
    assert skipped == 0
    assert told.duration_s.mean == pytest.approx(5000)
    assert told.duration_s.half_width == pytest.approx(0, abs=1e-6)
    assert (told.cost_usd.low, told.cost_usd.high) == pytest.approx((5, 5))
    assert told.throughput_per_s == pytest.approx((1, 1))


def test_a_slow_beginning_is_no_part_of_what_is_foretold() -> None:
    """Warm-up is counted once, not once for every thousand to come."""
    ends = [10.0 * (n + 1) for n in range(20)] + [200.0 + n + 1 for n in range(180)]
    (told,), skipped = forecast([row(n, end) for n, end in enumerate(ends)], [2000])
    assert 20 <= skipped <= 50  # what follows is all the same, so that any of these will do
    assert told.duration_s.mean == pytest.approx(200 + 1980)


def test_too_short_a_run_foretells_nothing() -> None:
    """Three requests have no scatter to speak of."""
    assert forecast([row(n, n + 1.0) for n in range(3)], [5000]) == ([], 0)


@given(st.integers(0, 10**6))
def test_larger_jobs_take_longer_and_are_known_less(seed: int) -> None:
    """Time, money and the width of both grow with the size."""
    luck = random.Random(seed)
    t, rows = 0.0, []
    for n in range(60):
        t += luck.expovariate(1.0)
        rows.append(row(n, t, luck.random()))
    told, _ = forecast(rows, [100, 1000, 10000])
    for name in ("duration_s", "cost_usd"):
        spans = [getattr(one, name) for one in told]
        assert spans[0].mean < spans[1].mean < spans[2].mean
        assert spans[0].half_width < spans[1].half_width < spans[2].half_width


def test_about_one_forecast_in_twenty_fails() -> None:
    """Of 300 runs of exponential gaps, the 95 % interval holds the next 1,000 in 90-99 %."""
    luck, held = random.Random(5), 0
    for _ in range(300):
        ends = [0.0]
        for _ in range(1200):
            ends.append(ends[-1] + luck.expovariate(1.0))
        (told,), _ = forecast([row(n, end) for n, end in enumerate(ends[1:201])], [1000])
        span = told.duration_s
        # Of other draws: what was seen as warm-up is part of both.
        held += span.contains(ends[1200] - ends[200])
    assert 0.90 <= held / 300 <= 0.99


def test_forecasts_of_the_crisis_come_true() -> None:
    """What 1,000 reviews foretell of 5,000 and 10,000 holds when they are run."""
    seen = flown("batched").result.records
    told, _ = forecast(seen, [5000, 10000], batch_size=10)
    check_true(told[0], flown("batched", "workload.reviews=5000").report)
    check_true(told[1], flown("batched", "workload.reviews=10000", engine="sim").report)


def check_true(told: Forecast, report: dict[str, float]) -> None:
    """Whether a run is inside its forecast."""
    assert told.duration_s.contains(report["duration_s"])
    assert told.cost_usd.contains(report["cost_usd"])
    low, high = told.throughput_per_s
    assert low <= report["throughput_per_s"] <= high
    assert told.success_low <= report["success_rate"] <= told.success_high


def test_three_sizes_give_the_table_and_the_story_beside_it(
    harness: Harness, tmp_path: Path
) -> None:
    """Every size has its status, its own figures and those that were claimed."""
    done = harness(
        "progressive", str(CRISIS), "--variant", "batched", "--sizes", "100,500", "--json", "p.json"
    )
    assert done.code == 0
    assert done.out.count("READY") == 4  # a line and a row for each
    assert "claimed 2.93/s" in done.out
    document = json.loads((tmp_path / "p.json").read_text())
    first = document["sizes"][0]
    assert (first["status"], first["claimed"]["cost_reduction"]) == ("READY", 0.613)
    assert math.isclose(first["projected"]["cost_usd"], first["measured"]["cost_usd"], rel_tol=0.02)
    assert [one["reviews"] for one in document["forecasts"]] == [5000, 10000, 50000]
    assert (tmp_path / "results/runs/timeout_crisis/progressive-500").is_dir()


def test_a_missed_promise_ends_it(harness: Harness) -> None:
    """A size that misses its SLO is not ready, and the next one is not begun."""
    done = harness(
        "progressive", "small.toml", "--variant", "broken", "--sizes", "10,20,40", "--engine", "sim"
    )
    assert done.code == 1
    assert "10 reviews: SLO missed: duration_s <= 0.5" in done.out
    assert "40 reviews: not run: 10 was not ready" in done.out


def test_money_ends_it_before_it_is_spent(harness: Harness, tmp_path: Path) -> None:
    """A size whose projected cost is over what is left is not begun, and the exit code says so."""
    done = harness("progressive", str(CRISIS), "--sizes", "100,500", "--max-usd", "0.1")
    assert done.code == 4
    assert "500 reviews: not run: budget: it would cost" in done.out
    assert not (tmp_path / "results/runs/timeout_crisis/progressive-500").exists()


def test_a_deadline_ends_it_before_it_is_missed(harness: Harness) -> None:
    """A size that cannot be in time, by what the one before says, is not begun."""
    done = harness("progressive", "small.toml", "--sizes", "20,400", "--deadline", "5")
    assert done.code == 1
    assert "400 reviews: not run: deadline: it would take" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sizes", "100,50"), "each must be greater"),
        (("--sizes", "ten"), "write numbers of reviews"),
        (("--sizes", "10,100000000"), "5,000,000 are the most"),
        (("--sizes", "0"), "write numbers of reviews"),
        (("--variant", "nobody"), "unknown variant"),
        (("--engine", "steam"), "no such engine"),
        (("--set", "workload.corpus=templates8", "--set", "workload.kind=arrivals"), "arrivals"),
    ],
)
def test_bad_input_is_one_line(
    harness: Harness, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """What cannot be meant is refused in one line, with exit code 2, and nothing is written."""
    before = files(tmp_path)
    done = harness("progressive", "small.toml", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert files(tmp_path) == before
