"""How a sweep scales from one process to two: python tests/benchmarks/sweep.py [REVIEWS]."""

import sys
import time
from pathlib import Path

import msgspec

from harness.experiments.executors import Kept, executor, sweep
from harness.experiments.points import Task, task_of
from harness.scenario.load import load_file

ROOT = Path(__file__).parents[2]
RUNS = 24


def seconds(jobs: int, first: Task) -> float:
    """Wall-clock seconds of a sweep, once every process has read its corpus."""
    tasks = [msgspec.structs.replace(first, seed=n) for n in range(1, RUNS + 2 * jobs + 1)]
    with executor(jobs) as pool:
        sweep(tasks[RUNS:], pool, Kept())
        began = time.perf_counter()
        sweep(tasks[:RUNS], pool, Kept())
        return time.perf_counter() - began


def main() -> None:
    """Time both in turn, and print their ratio."""
    reviews = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    path = ROOT / "scenarios" / "timeout_crisis.toml"
    first = task_of(load_file(path, [f"workload.reviews={reviews}"]), "after_storm")
    for _ in range(2):
        one, two = seconds(1, first), seconds(2, first)
        done = f"{RUNS} runs of {reviews:,} reviews: {one:.1f} s in one process, {two:.1f} s in two"
        print(f"{done}: {one / two:.2f} times as fast; {RUNS * reviews / two:,.0f} requests/s")


if __name__ == "__main__":
    main()
