"""What a tier's new price does to the bill, and where it would pay to route differently.

Usage: python scenarios/price_change.py [FOLDER FOR THE PICTURE]
"""

import sys
from pathlib import Path

from harness.experiments.run import prepare_variant
from harness.report.plots import drawn
from harness.scenario.load import load_file

SCENARIO = Path(__file__).with_name("timeout_crisis.toml")
TIER, PRICE = "anthropic/claude-3-haiku", 0.25
FACTORS = (0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0)
MIXES = {
    "as measured": (0.08, 0.73, 0.19),
    "half of it moved up": (0.08, 0.365, 0.555),
    "all of it moved down": (0.81, 0.0, 0.19),
}
MODELS = ("openai/gpt-4o-mini", TIER, "openai/gpt-3.5-turbo")


def bill_usd(mix: str, factor: float) -> float:
    """Dollars for a thousand reviews, projected from their texts: nothing is called."""
    shares = zip(MODELS, MIXES[mix], strict=True)
    table = ", ".join(f'"{model}" = {share}' for model, share in shares if share)
    sets = [
        f"pipeline.router={{kind='smart', shares={{{table}}}}}",
        f"upstream.models.'{TIER}'.prompt_usd_per_m={PRICE * factor}",
    ]
    file = load_file(SCENARIO, sets, "after")
    return prepare_variant(file, "after").projection.cost_usd


def main(folder: Path) -> None:
    """Project, print, draw."""
    bills = {mix: [bill_usd(mix, factor) for factor in FACTORS] for mix in MIXES}
    print(f"dollars per 1,000 reviews, by the prompt price of {TIER}")
    print("price/M   " + "   ".join(f"{mix:>20}" for mix in MIXES))
    for at, factor in enumerate(FACTORS):
        cells = "   ".join(f"{bills[mix][at]:20.4f}" for mix in MIXES)
        print(f"{PRICE * factor:7.3f}   {cells}")
    now, twice = (bills["as measured"][FACTORS.index(factor)] for factor in (1.0, 2.0))
    print(f"twice the price makes the bill {twice / now - 1:.0%} dearer, not 100 %")
    dearer = (
        factor
        for factor, kept, moved in zip(
            FACTORS, bills["as measured"], bills["half of it moved up"], strict=True
        )
        if kept > moved
    )
    print(f"the dearer tier is the cheaper one from {next(dearer):g} times the price on")
    title = "A new price for one tier"
    with drawn(folder / "price_change.png", title, f"$/M of {TIER}", "$ per 1,000") as axes:
        for mix, usd in bills.items():
            axes.plot([PRICE * factor for factor in FACTORS], usd, marker="o", label=mix)
        axes.axvline(PRICE, color="#9aa5b1", linestyle=":", label="today")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("results/planning"))
