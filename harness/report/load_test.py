"""What a load test found, for whoever watches the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from harness.report.cases import Case
from harness.report.table import spike_text
from harness.report.text import usd

_COLOURS = {
    "": "[green]holds[/]",
    "failure": "[bold red]missed[/]",
    "error": "[bold red]INVALID[/]",
}
_COLOURS["skipped"] = "[dim]not judged[/]"


def told(
    report: Mapping[str, Any], cases: Sequence[Case], agreement: Sequence[Mapping[str, Any]] = ()
) -> Iterator[Table | str]:
    """Tables of promises and counts, and lines of all else; in rich's markup."""
    yield _promises(report, cases)
    yield _counts(report)
    yield from _lines(report, agreement)


def _promises(report: Mapping[str, Any], cases: Sequence[Case]) -> Table:
    state = "[green]VALID[/]" if report["valid"] else "[bold red]INVALID[/]"
    state += ", interrupted" if report["stopped"] == "interrupted" else ""
    where = escape(f"{report['scenario']} · {report['variant']} · seed {report['seed']}")
    table = Table(title=f"{where} · {state}", title_justify="left", expand=False)
    for header in ("what is to hold", "", "measured, or why not"):
        table.add_column(header, overflow="fold")
    values = {f"{one['metric']} {one['bound']}": one["value"] for one in report["slo"]["checks"]}
    for case in cases:
        value = values.get(case.name)
        shown = case.why or ("" if value is None else f"{value:.4g}")
        table.add_row(escape(case.name), _COLOURS[case.state], escape(shown))
    return table


def _counts(report: Mapping[str, Any]) -> Table:
    table = Table(title="counts", title_justify="left", expand=False)
    for header in ("users", "who counted", "requests", "calls", "cost"):
        table.add_column(header, justify="left" if header == "users" else "right")
    reconciled = report["reconciliation"]
    orphans = reconciled["orphans"]
    for kind, sides in {**reconciled["kinds"], **({"unseen": orphans} if orphans else {})}.items():
        if sides["locust"] is not None:
            table.add_row(kind, "Locust", f"{sides['locust']:,}", "", "")
        for side in ("users", "service", "mock"):
            count = sides[side]
            if count is not None:
                asked = "" if count["requests"] is None else f"{count['requests']:,}"
                table.add_row(kind, side, asked, f"{count['attempts']:,}", usd(count["cost_usd"]))
    return table


def _lines(report: Mapping[str, Any], agreement: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for kind, users in report["users"].items():
        yield escape(f"{kind}: {_times(users['latency_s'])} from the intended start")
        if users["sent_late"]:
            yield f"{kind}: {users['sent_late']:,} of {users['requests']:,} were sent late"
    search = report.get("search")
    if search:
        yield f"[bold]{search['users']:,} users[/] at most; what binds: {escape(search['binds'])}"
    if report["spike"]:
        yield escape(spike_text([report]))
    rest = report["added_s"]
    if rest and rest["p50"] is not None:
        served = {name: rest[f"service_{name}"] for name in ("mean", "p50", "p95", "p99")}
        yield escape(
            "the service, HTTP included, adds to the provider's own time and waiting in line "
            f"{_times(served)}; from the intended start it is {_times(rest)}, since "
            f"{_ms(rest['sent_late'])} were sent late and the mock was late "
            f"{_ms(rest['mock_late'])} (means)"
        )
    if report["verdicts"]:
        causes = ", ".join(f"{cause} {count:,}" for cause, count in report["verdicts"].items())
        yield escape(f"what failed, by cause: {causes}")
    for one in agreement:
        yield escape(
            f"{one['figure']}: {_ms(one['live'])} live; {one['n']} virtual runs foretell "
            f"{_ms(one['low'])} to {_ms(one['high'])}, their mean is {_ms(one['mean'])} ± "
            f"{_ms(one['half_width'])}, and with the same weather it is {_ms(one['same_seed'])}"
        )
    certificate = report["certificate"]
    shares = ("generator", "service", "mock", "machine")
    known = [(one, certificate[f"{one}_cpu_share"]) for one in shares]
    busy = ", ".join(f"{name} {share:.0%}" for name, share in known if share is not None)
    yield escape(
        f"processor: {busy}; greenlets {_ms(certificate['greenlet_lag_s_p99'])} late (p99)"
    )
    for note in report["notes"]:
        yield f"[dim]{escape(note)}[/]"


def _times(spread: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_ms(spread[name])}" for name in ("mean", "p50", "p95", "p99"))


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms"
