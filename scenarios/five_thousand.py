"""5,000 reviews in under ten minutes: how many slots it takes, and what the barrier costs.

Usage: python scenarios/five_thousand.py [FOLDER FOR THE PICTURE]
"""

import sys
from pathlib import Path

from harness.experiments.flights import fly
from harness.report.plots import drawn
from harness.statistics import Interval, interval

SCENARIO = Path(__file__).with_name("timeout_crisis.toml")
REVIEWS, LIMIT_S, MEAN_S = 5000, 600.0, 1.19
SLOTS = (8, 10, 11, 12, 16, 20, 24)
SEEDS = range(1, 5)


def minutes(slots: int, variant: str) -> Interval:
    """How long the job takes with so many slots, by four seeds of the weather."""
    sets = [
        f"workload.reviews={REVIEWS}",
        f"pipeline.concurrency={slots}",
        f"pipeline.batch_size={2 * slots}",
        "pipeline.rate_limit=none",
    ]
    runs = fly(SCENARIO, *sets, variant=variant, seeds=SEEDS)
    return interval([run.report["duration_s"] / 60 for run in runs])


def main(folder: Path) -> None:
    """Ask the twin, print, draw."""
    least = REVIEWS * MEAN_S / LIMIT_S
    print(f"{REVIEWS:,} reviews at {MEAN_S} s in {LIMIT_S / 60:g} min: {least:.2f} slots, all busy")
    print("slots  without a barrier  behind one (minutes, 95 % of the mean)")
    told: dict[str, list[Interval]] = {"after": [], "batched": []}
    for slots in SLOTS:
        for variant, spans in told.items():
            spans.append(minutes(slots, variant))
        free, barred = (spans[-1] for spans in told.values())
        print(
            f"{slots:5}  {free.mean:6.2f} ± {free.half_width:.2f}   "
            f"{barred.mean:8.2f} ± {barred.half_width:.2f}"
        )
    for variant, text in (("after", "without a barrier"), ("batched", "behind a barrier")):
        enough = [n for n, span in zip(SLOTS, told[variant], strict=True) if span.high < 10]
        print(f"{text}: {enough[0] if enough else f'more than {SLOTS[-1]}'} slots")
    title = f"{REVIEWS:,} reviews: ten minutes, with and without a barrier"
    with drawn(folder / "five_thousand.png", title, "slots", "minutes") as axes:
        for variant, text in (("after", "no barrier"), ("batched", "batches of 2 x slots")):
            means, widths = zip(*((s.mean, s.half_width) for s in told[variant]), strict=True)
            axes.errorbar(SLOTS, means, yerr=widths, marker="o", capsize=3, label=text)
        axes.axhline(LIMIT_S / 60, color="#c93c37", linestyle="--", label="the promise")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("results/planning"))
