"""Surviving an outage: what each way of being patient gets through, and how often that is enough.

How long outages last: 231 incidents of OpenAI's API, 2020-2024, lognormal with a median of 75
minutes and a sigma of 1.17 (fitted to the provider's public incident page).

Usage: python scenarios/one_hour_outage.py [FOLDER FOR THE PICTURE]
"""

import sys
from math import log
from pathlib import Path
from statistics import NormalDist

from harness.experiments.flights import fly
from harness.report.plots import drawn

SCENARIO = Path(__file__).with_name("timeout_crisis.toml")
MEDIAN_MIN, SIGMA = 75.0, 1.17
OUTAGES_MIN = (1, 5, 20, 60, 180)
PATIENT = "pipeline.backoff={{base_s=1.0, cap_s={cap}, jitter='full'}}"
ROUTED = ("openai/gpt-4o-mini", "anthropic/claude-3-haiku", "openai/gpt-3.5-turbo")
WAYS = {
    "6 retries, up to 20 s apart": ["pipeline.retries=6"],
    "20 retries, up to 5 min apart": ["pipeline.retries=20", PATIENT.format(cap=300.0)],
    "the same, another provider beside it": [
        "pipeline.retries=20",
        PATIENT.format(cap=300.0),
        "pipeline.fallbacks=['openai/gpt-4o']",
        f"upstream.faults.outage.models={list(ROUTED)}",
    ],
}


def through(way: str, outage_min: float) -> tuple[float, float, float]:
    """Share that is answered, hours that it takes, dollars, with an outage after one minute."""
    until_s = 60 + 60 * outage_min
    outage = f"{{kind='server_error', rate=1.0, from_s=60.0, until_s={until_s}}}"
    sets = [f"upstream.faults.outage={outage}", "workload.reviews=1000", "slo={}", *WAYS[way]]
    (run,) = fly(SCENARIO, *sets, variant="after")
    report = run.report
    return report["success_rate"], report["duration_s"] / 3600, report["cost_usd"]


def shorter_than(outage_min: float) -> float:
    """Share of outages that are over by then."""
    return NormalDist(log(MEDIAN_MIN), SIGMA).cdf(log(outage_min))


def main(folder: Path) -> None:
    """Try, print, draw."""
    told = {way: [through(way, outage) for outage in OUTAGES_MIN] for way in WAYS}
    print("1,000 reviews, 5 slots, an outage after a minute: share answered, hours, dollars")
    print("outage  " + "   ".join(f"{way:>38}" for way in WAYS))
    for at, outage in enumerate(OUTAGES_MIN):
        cells = (
            f"{100 * ok:5.1f} % {hours:7.2f} h ${usd:.2f}"
            for ok, hours, usd in (told[way][at] for way in WAYS)
        )
        print(f"{outage:4} min  " + "   ".join(f"{cell:>38}" for cell in cells))
    for way, rows in told.items():
        whole = [o for o, row in zip(OUTAGES_MIN, rows, strict=True) if row[0] == 1.0]
        share = shorter_than(whole[-1]) if whole else 0.0
        longest = f"{whole[-1]} min" if whole else "none"
        print(f"{way}: whole through {longest}; {share:.0%} of outages are no longer")
    title = "An outage in the middle of 1,000 reviews"
    with drawn(folder / "one_hour_outage.png", title, "minutes of outage", "answered") as axes:
        for way, rows in told.items():
            axes.plot(OUTAGES_MIN, [ok for ok, _, _ in rows], marker="o", label=way)
        curve = range(1, 181)
        axes.plot(
            curve, [1 - shorter_than(x) for x in curve], "k:", label="outages that last longer"
        )
        axes.set_xscale("log")
        axes.set_xticks(OUTAGES_MIN)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("results/planning"))
