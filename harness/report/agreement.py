"""The table of `harness agree`, made of the JSON's agreements alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

_VERDICT = {True: "[green]agrees[/]", False: "[bold red]differs[/]", None: "[dim]no verdict[/]"}


def agreement_tables(agreements: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """For each pair of engines what they say; where all is equal, in one line a run."""
    pairs = dict.fromkeys((one["left"], one["right"]) for one in agreements)
    for left, right in pairs:
        table = Table(title=f"{left} and {right}", title_justify="left")
        for column in ("variant", "seed", "figure", left, right, "tolerance", "", "why"):
            table.add_column(column, overflow="fold", min_width=8 if column in {left, right} else 4)
        for one in agreements:
            if (one["left"], one["right"]) == (left, right):
                _tell(table, one)
        yield table


def _tell(table: Table, one: Mapping[str, Any]) -> None:
    seeds = one["seeds"]
    seed = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}-{seeds[-1]}"
    for check in one["checks"]:
        if one["agreed"] and check["tolerance"] == "equal":
            continue  # said by the line on every row
        sides = [escape(shown(check[side])) for side in ("left", "right")]
        verdict = _VERDICT[check["agreed"]]
        cells = (escape(one["variant"]), seed, check["metric"], *sides, check["tolerance"], verdict)
        table.add_row(*cells, escape(check["why"]))


def difference_table(difference: Mapping[str, Any], left: str, right: str) -> Table:
    """Both timelines of the first request that differs, side by side."""
    others = difference["differing"] - 1
    more = f" ({others:,} more differ)" if others else ""
    title = f"first to differ: {difference['key']}, at {difference['at_s']:.6f} s{more}"
    table = Table(title=escape(title), title_justify="left")
    for column in ("attempt", "field", left, right, ""):
        table.add_column(column, overflow="fold")
    attempt = None
    for moment in difference["timeline"]:
        if attempt not in {None, moment["attempt"]}:
            table.add_section()
        attempt = moment["attempt"]
        mark = "" if moment["same"] else "[bold red]differs[/]"
        cells = [escape(shown(moment[side])) for side in ("left", "right")]
        table.add_row(str(attempt), moment["field"], *cells, mark)
    return table


def shown(value: object) -> str:
    """A value as a person reads it: seconds to the microsecond, digests by their beginning."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6f}"
    text = str(value)
    return text[:12] if len(text) == 64 else text
