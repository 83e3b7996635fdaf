"""How many workers 1,000 users at 100 requests a minute need, and what fewer would do to them.

Usage: python scenarios/thousand_at_a_hundred.py [FOLDER FOR THE PICTURE]
"""

import sys
from math import sqrt
from pathlib import Path

from harness.experiments.flights import fly
from harness.report.plots import drawn
from harness.theory.erlang import erlang_c

SCENARIO = Path(__file__).with_name("overload.toml")
USERS, PER_MIN, SERVICE_S = 1000, 100, 1.19
RATE_PER_S = USERS * PER_MIN / 60
STAFF = (1900, 1960, 2000, 2050, 2100, 2200)
TRIED, FOR_S = (1900, 2050), 60.0


def waits(workers: int) -> float:
    """Share that waits for a worker, by Erlang C; all, where the workers are too few."""
    load = RATE_PER_S * SERVICE_S
    return float(erlang_c(workers, load)) if workers > load else 1.0


def tried(workers: int) -> tuple[float, float, float]:
    """By the twin: share answered, median and 95th percentile of the latency, seconds."""
    sets = [
        f"pipeline.workers={workers}",
        f"workload.users={USERS}",
        f"workload.arrivals.rate_per_s={RATE_PER_S}",
        f"workload.duration_s={FOR_S}",
        "slo={}",
    ]
    (run,) = fly(SCENARIO, *sets, variant="useful")
    latency = run.report["latency_ok_s"]
    return run.report["success_rate"], latency["p50"], latency["p95"]


def main(folder: Path) -> None:
    """Work it out, try two, print, draw."""
    load = RATE_PER_S * SERVICE_S
    rule = load + sqrt(load)
    busy = f"{RATE_PER_S:,.0f}/s at {SERVICE_S} s keep {load:,.0f} workers busy"
    print(f"{busy}; with its root added {rule:,.0f}")
    print("workers   busy   who waits (Erlang C)")
    for workers in STAFF:
        print(f"{workers:7,}   {min(1.0, load / workers):4.0%}   {waits(workers):8.2%}")
    for workers in TRIED:
        ok, p50, p95 = tried(workers)
        seen = f"{ok:.1%} ok, p50 {p50:.2f} s, p95 {p95:.2f} s"
        print(f"tried {workers:,} workers for {FOR_S:g} s: {seen}")
    title = f"{USERS:,} users at {PER_MIN} a minute"
    with drawn(folder / "thousand_at_a_hundred.png", title, "workers", "share that waits") as axes:
        staff = range(1850, 2251, 10)
        axes.plot(staff, [waits(workers) for workers in staff])
        axes.axvline(load, color="#9aa5b1", linestyle=":", label=f"{load:,.0f} busy on average")
        axes.axvline(rule, color="#1a7f37", linestyle="--", label=f"+ square root: {rule:,.0f}")
        axes.set_ylim(0, 1.02)
        axes.legend(frameon=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("results/planning"))
