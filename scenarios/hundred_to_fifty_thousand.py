"""From 100 to 50,000 reviews, in time and money: what a run of 1,000 foretells, and the test of it.

Usage: python scenarios/hundred_to_fifty_thousand.py [FOLDER FOR THE PICTURE]
"""

import sys
from pathlib import Path

from harness.experiments.flights import fly
from harness.experiments.progressive import Forecast, forecasts
from harness.report.plots import drawn

SCENARIO = Path(__file__).with_name("timeout_crisis.toml")
VARIANTS = {"batched": "behind a barrier", "after": "without"}
SIZES = (100, 500, 1000, 5000, 10_000, 50_000)
SEEN, TRIED = 1000, 5000


def foretold(variant: str) -> list[Forecast]:
    """What a run of a thousand says of every size."""
    (seen,) = fly(SCENARIO, f"workload.reviews={SEEN}", variant=variant)
    return forecasts(seen, SIZES)[0]


def main(folder: Path) -> None:
    """Foretell, try one, print, draw."""
    told = {variant: foretold(variant) for variant in VARIANTS}
    print(f"5 slots; a run of {SEEN:,} foretells (95 %):")
    print("reviews   minutes behind a barrier   minutes without   dollars")
    for at, size in enumerate(SIZES):
        cells = []
        for variant in VARIANTS:
            span = told[variant][at].duration_s
            cells.append(f"{span.low / 60:9.1f} - {span.high / 60:7.1f}")
        money = told["after"][at].cost_usd
        print(f"{size:7,}   {'   '.join(cells)}   {money.low:7.2f} - {money.high:6.2f}")
    for variant, text in VARIANTS.items():
        (run,) = fly(SCENARIO, f"workload.reviews={TRIED}", variant=variant)
        took, span = run.report["duration_s"], told[variant][SIZES.index(TRIED)].duration_s
        inside = "inside" if span.contains(took) else "OUTSIDE"
        print(f"tried {TRIED:,} {text}: {took / 60:.1f} min, {inside} the interval")
    title = "What a run of 1,000 foretells, with its interval"
    with drawn(folder / "hundred_to_fifty_thousand.png", title, "reviews", "minutes") as axes:
        for variant, text in VARIANTS.items():
            spans = [one.duration_s for one in told[variant]]
            axes.plot(SIZES, [span.mean / 60 for span in spans], marker="o", label=text)
            low, high = ([getattr(s, end) / 60 for s in spans] for end in ("low", "high"))
            axes.fill_between(SIZES, low, high, alpha=0.25)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.legend(frameon=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("results/planning"))
