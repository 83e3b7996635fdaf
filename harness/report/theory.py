"""The table of what theory says: variant | formula | what it gives | how good it is, or why not."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from harness.report.text import length, percent, rate

_SHOWN: dict[str, tuple[str, Callable[[float], str]]] = {
    "throughput_per_s": ("speed", rate),
    "throughput_per_s_min": ("speed at least", rate),
    "throughput_per_s_max": ("speed at most", rate),
    "duration_s": ("duration", length),
    "wait_s.mean": ("mean wait", lambda s: f"{s:.4g} s"),
    "latency_s.mean": ("mean latency", lambda s: f"{s:.4g} s"),
    "latency_s.p50": ("p50", lambda s: f"{s:.4g} s"),
    "latency_s.p95": ("p95", lambda s: f"{s:.4g} s"),
    "timeout_rate": ("timed out", percent),
    "rejected_share": ("refused", percent),
    "useful_depth": ("useful depth", lambda n: f"{n:,.0f}"),
    "vulnerable_from_per_s": ("vulnerable from", rate),
    "vulnerable_to_per_s": ("vulnerable to", rate),
}


_VERDICT = {True: "[green]holds[/]", False: "[red]missed[/]", None: "theory does not know"}


def theory_table(reports: Sequence[Mapping[str, Any]]) -> Table:
    """Every formula that was asked, by variant; seeds change nothing."""
    table = Table(
        title=escape(f"{reports[0]['scenario']} · closed forms, nothing was run"),
        title_justify="left",
    )
    table.add_column("variant", overflow="fold")
    for header, width in (("formula", 28), ("says", 32), ("how good, or why not", 54)):
        table.add_column(header, max_width=width, overflow="fold")
    for report in {report["variant"]: report for report in reports}.values():
        table.add_section()
        name = escape(report["variant"])
        for answer in report["theory"]:
            good = f"{answer['kind']}: {answer['why']}"
            why = good if answer["applies"] else f"does not apply: {answer['why']}"
            cells = (escape(answer["formula"]), _figures(answer["figures"]), escape(why))
            table.add_row(f"[bold]{name}[/]", *cells, style=None if answer["applies"] else "dim")
            name = ""
        for check in report["slo"]["checks"]:
            told = escape(f"{check['metric']} {check['bound']}")
            table.add_row("", "promise", told, _VERDICT[check["passed"]])
    return table


def _figures(figures: Mapping[str, float]) -> str:
    lines = [
        f"{name} {show(figures[key])}" for key, (name, show) in _SHOWN.items() if key in figures
    ]
    return escape("\n".join(lines))
