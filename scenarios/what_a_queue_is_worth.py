"""What a queue of 10,000 is worth: goodput and wasted calls over the queue's length.

Five workers at 1.19 s are asked for forty times what they can do, and answers are wanted within
30 s: the tenth of a pool of 50 with a queue of 10,000.

Usage: python scenarios/what_a_queue_is_worth.py [FOLDER FOR THE PICTURE]
"""

import sys
from pathlib import Path

from harness.experiments.flights import fly
from harness.report.plots import drawn

SCENARIO = Path(__file__).with_name("overload.toml")
WORKERS, SERVICE_S, DEADLINE_S = 5, 1.19, 30.0
SIZES = (10, 40, 80, 120, 200, 400, 1000)
FOR_S = 120.0


def served(size: int) -> tuple[float, int, float]:
    """Answers a second over the run, calls for those who had left, dollars for each answer."""
    queue = f"pipeline.queue={{size={size}, useful_only=false}}"
    (run,) = fly(SCENARIO, queue, f"workload.duration_s={FOR_S}", "slo={}", variant="useful")
    report = run.report
    vain = report["attempts"] - report["ok"]
    return report["throughput_per_s"], vain, report["cost_usd"] / max(1, report["ok"])


def main(folder: Path) -> None:
    """Try, print, draw."""
    most = WORKERS / SERVICE_S
    useful = (DEADLINE_S - SERVICE_S) * most
    print(
        f"{WORKERS} workers serve {most:.2f}/s; whoever is {useful:.0f} deep is answered too late"
    )
    print("queue   answers/s   calls in vain   $ per 1,000 answers")
    told = [served(size) for size in SIZES]
    for size, (rate, vain, usd) in zip(SIZES, told, strict=True):
        print(f"{size:5}   {rate:9.2f}   {vain:13}   {1000 * usd:19.2f}")
    title = "A longer queue answers fewer"
    with drawn(folder / "what_a_queue_is_worth.png", title, "queue", "answers a second") as axes:
        axes.plot(SIZES, [rate for rate, _, _ in told], marker="o")
        axes.axhline(most, color="#9aa5b1", linestyle=":", label="what the workers can do")
        axes.axvline(useful, color="#c93c37", linestyle="--", label=f"useful depth {useful:.0f}")
        axes.set_xscale("log")
        axes.set_xticks(SIZES)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("results/planning"))
