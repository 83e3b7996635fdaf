"""The table of `harness compare`, made of its JSON alone."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from harness.report.text import percent, rate, usd

_COLOURS = {"better": "green", "worse": "red"}


def sides_table(found: Mapping[str, Any]) -> Table:
    """Each figure of both sides, the difference, and what may be concluded from it."""
    table = Table(title=escape(found["scenario"]), title_justify="left", expand=False)
    table.add_column("figure", no_wrap=True, overflow="fold")
    for side in ("left", "right"):
        table.add_column(_name(found[side]), overflow="fold", justify="right")
    table.add_column("difference", overflow="fold", justify="right")
    table.add_column("the right is", overflow="fold")
    for one in found["figures"]:
        metric, half, gap, answer = (
            one[name] for name in ("metric", "half_width_95", "difference", "right_is")
        )
        gap_shown = (
            ""
            if gap is None
            else f"{'-' if gap < 0 else '+' if gap else ''}{shown(metric, abs(gap))}"
        )
        more = "" if half is None else f" ± {shown(metric, half)}"
        verdict = f"[{_COLOURS.get(answer, 'dim')}]{answer}[/]" if answer else ""
        sides = (shown(metric, one[side]) for side in ("left", "right"))
        table.add_row(escape(metric), *sides, gap_shown + more, verdict)
    missed = (escape("; ".join(found[side]["missed"])) or "none" for side in ("left", "right"))
    table.add_row("missed promises", *missed)
    return table


def _name(side: Mapping[str, Any]) -> str:
    seeds = side["seeds"]
    many = f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"
    return escape(f"{side['variant']} {side['engine']}\n{many}")


def shown(metric: str, value: float | None) -> str:
    """A figure as a person reads it."""
    if value is None:
        return "-"
    if "cost_usd" in metric:
        return usd(value) if metric == "cost_usd" else f"${value:.6f}"
    if metric.endswith("_rate"):
        return percent(value)
    if metric.endswith("_per_s"):
        return rate(value)
    if metric.partition(" ")[0].partition(".")[0].endswith("_s"):
        return f"{value:,.3f} s" if value >= 0.1 or not value else f"{value * 1000:,.3g} ms"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"
