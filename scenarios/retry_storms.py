"""Retry storms and their cure: over load and policy, where the system returns and where not.

A provider with ten slots at 0.1 s meets three times its load for ten seconds; callers wait for 1 s.

Usage: python scenarios/retry_storms.py [FOLDER FOR THE PICTURE]
"""

import sys
from pathlib import Path

from harness.experiments.flights import fly
from harness.records import requests
from harness.report.plots import drawn

SCENARIO = Path(__file__).with_name("metastability.toml")
LOADS_PER_S = (20, 40, 60, 80)
POLICIES = ("no_retries", "retries", "jitter", "budget", "cancel", "bounded", "lifo")
SPIKE_AT_S, SPIKE_S, FROM_S, UNTIL_S = 10.0, 10.0, 130.0, 190.0


def returned(policy: str, load_per_s: float) -> float:
    """Share of what is asked for long after the spike that is answered."""
    spike = f"{{kind='spike', base_per_s={load_per_s}, factor=3.0, at_s={SPIKE_AT_S}, "
    sets = [f"workload.arrivals={spike}for_s={SPIKE_S}}}", f"workload.duration_s={UNTIL_S}"]
    (run,) = fly(SCENARIO, *sets, variant=policy)
    late = [rows for rows in requests(run.result.records) if rows[0].t_intended >= FROM_S]
    return sum(rows[-1].outcome == "ok" for rows in late) / len(late)


def main(folder: Path) -> None:
    """Try, print, draw."""
    print(f"answered from {FROM_S:g} to {UNTIL_S:g} s, of a spike that ended at 20 s; 100/s can be")
    print("policy       " + "".join(f"{load:>6}/s" for load in LOADS_PER_S))
    told = []
    for policy in POLICIES:
        told.append([returned(policy, load) for load in LOADS_PER_S])
        print(f"{policy:12} " + "".join(f"{share:8.0%}" for share in told[-1]))
    title = "Three times the load for ten seconds: who comes back"
    with drawn(folder / "retry_storms.png", title, "load before and after, 1/s", "") as axes:
        axes.imshow(told, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(LOADS_PER_S)), [f"{load}" for load in LOADS_PER_S])
        axes.set_yticks(range(len(POLICIES)), [name.replace("_", " ") for name in POLICIES])
        axes.grid(visible=False)
        for y, row in enumerate(told):
            for x, share in enumerate(row):
                axes.text(x, y, f"{share:.0%}", ha="center", va="center")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("results/planning"))
