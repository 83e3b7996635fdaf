"""The tables of `harness progressive`: is a job of that size ready, and what of larger ones."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from harness.report.text import length, percent, rate, usd

Row = Mapping[str, Any]
Text = Callable[[float], str]


def ready_table(rows: Sequence[Row], title: str) -> Table:
    """Size after size, what was claimed of it and what it did; `rows` are the JSON's `sizes`."""
    table = Table(title=escape(title), title_justify="left", expand=False, show_lines=True)
    for header in ("scale", "status", "speed", "success", "cost reduction", "time", "cost"):
        table.add_column(header, overflow="fold", max_width=34)
    for row in rows:
        table.add_row(f"{row['reviews']:,}", _status(row), *_figures(row))
    return table


def _status(row: Row) -> str:
    if row["status"] == "READY":
        return "[green]READY[/]"
    colour = "red" if row["status"] == "NOT READY" else "yellow"
    return f"[{colour}]{row['status']}[/]\n{escape(row['why'])}"


def _figures(row: Row) -> list[str]:
    ours, said = row["measured"], row["claimed"]
    cost = f"projected {usd(row['projected']['cost_usd'])}"
    if ours is None:
        return ["", "", "", "", cost]
    shown: tuple[tuple[str, Text], ...] = (
        ("throughput_per_s", rate),
        ("success_rate", percent),
        ("cost_reduction", tenths),
        ("duration_s", length),
    )
    beside = [
        f"{text(ours[metric])}\n[dim]claimed {text(said[metric])}[/]"
        if metric in said
        else text(ours[metric])
        for metric, text in shown
    ]
    return [*beside, f"{usd(ours['cost_usd'])}\n[dim]{cost}[/]"]


def tenths(share: float) -> str:
    """A reduction, to a tenth of a percent."""
    return f"{share * 100:.1f} %"


def forecast_table(rows: Sequence[Row], seen: int) -> Table:
    """What to expect of larger jobs; `rows` are the JSON's `forecasts`, made of `seen` reviews."""
    title = f"If the rest is like the {seen:,} that were seen (95 % intervals)"
    table = Table(title=title, title_justify="left", expand=False)
    shown: tuple[tuple[str, str, Text], ...] = (
        ("time", "duration_s", length),
        ("speed", "throughput_per_s", rate),
        ("success", "success_rate", percent),
        ("cost", "cost_usd", usd),
    )
    for header in ("scale", *(header for header, _, _ in shown)):
        table.add_column(header, overflow="fold")
    for row in rows:
        spans = (f"{text(row[name][0])} - {text(row[name][1])}" for _, name, text in shown)
        table.add_row(f"{row['reviews']:,}", *spans)
    return table
