"""Retry storms and their cure: over load and policy, where the system returns and where not.

A provider with ten slots at 0.1 s meets three times its load for ten seconds; callers wait for 1 s.

Usage: python scenarios/retry_storms.py [FOLDER FOR THE PICTURE [ENGINE]]
"""

import sys
from pathlib import Path

from harness.experiments.flights import fly
from harness.records import requests
from harness.report.plots import drawn
from harness.statistics import interval

SCENARIO = Path(__file__).with_name("metastability.toml")
LOADS_PER_S = (20, 40, 60, 80)
POLICIES = ("no_retries", "retries", "jitter", "budget", "cancel", "bounded", "lifo")
FROM_S, UNTIL_S = 180.0, 240.0
SEEDS = range(1, 9)


def returned(policy: str, load_per_s: float, engine: str, seed: int) -> float:
    """Share of what is asked for long after the spike that is answered."""
    load = f"workload.arrivals.base_per_s={load_per_s}"
    (run,) = fly(SCENARIO, load, variant=policy, engine=engine, seeds=(seed,))
    late = [rows for rows in requests(run.result.records) if rows[0].t_intended >= FROM_S]
    return sum(rows[-1].outcome == "ok" for rows in late) / len(late)


def main(folder: Path, engine: str = "sim") -> None:
    """Try, print, draw; what is neither up nor down in a first run is asked of more seeds."""
    print(f"answered from {FROM_S:g} to {UNTIL_S:g} s, of a spike that ended at 70 s; 100/s can be")
    print("policy       " + "".join(f"{load:>6}/s" for load in LOADS_PER_S))
    told, between = [], []
    for policy in POLICIES:
        told.append([returned(policy, load, engine, SEEDS[0]) for load in LOADS_PER_S])
        for at, load in enumerate(LOADS_PER_S):
            if 0.05 < told[-1][at] < 0.95:
                more = [returned(policy, load, engine, seed) for seed in SEEDS[1:]]
                mean = interval([told[-1][at], *more])
                told[-1][at] = mean.mean
                between.append(
                    f"{policy} at {load}/s: {mean.mean:.0%} ± {mean.half_width:.0%}, the mean of "
                    f"{mean.n} runs"
                )
        print(f"{policy:12} " + "".join(f"{share:8.0%}" for share in told[-1]), flush=True)
    print(*between, sep="\n")
    title = "Three times the load for ten seconds: who comes back"
    with drawn(folder / "retry_storms.png", title, "load before and after, 1/s", "") as axes:
        axes.imshow(told, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(LOADS_PER_S)), [f"{load}" for load in LOADS_PER_S])
        axes.set_yticks(range(len(POLICIES)), [name.replace("_", " ") for name in POLICIES])
        edges = [n - 0.5 for n in range(1, len(POLICIES))]
        axes.hlines(edges, -0.5, len(LOADS_PER_S) - 0.5, color="white", linewidth=2)
        axes.grid(visible=False)
        for y, row in enumerate(told):
            for x, share in enumerate(row):
                color = "black" if 0.2 < share < 0.8 else "white"
                axes.text(x, y, f"{share:.0%}", ha="center", va="center", color=color)


if __name__ == "__main__":
    main(Path((*sys.argv, "results/planning")[1]), *sys.argv[2:3])
