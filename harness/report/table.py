"""The table at the end of a run: variant | claimed | here | why. Made of run reports alone."""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, floor
from statistics import fmean, stdev
from typing import Any

from rich.markup import escape
from rich.table import Table

from harness.report.text import length, percent, rate, usd
from harness.scenario.model import Variant

Report = Mapping[str, Any]

# Findings on a client that say once more what one of these bottlenecks has said.
_SAME = {
    "no_timeout": {"patience", "no_time_limit", "waits_for_ever"},
    "no_pool": {"connections"},
}


def by_variant(reports: Sequence[Report]) -> dict[str, list[Report]]:
    """Reports of one variant and engine together, in order of appearance."""
    engines = {report["engine"] for report in reports}
    groups: dict[str, list[Report]] = {}
    for report in reports:
        name = report["variant"] if len(engines) == 1 else f"{report['variant']} {report['engine']}"
        groups.setdefault(name, []).append(report)
    return groups


def run_table(reports: Sequence[Report], variants: Mapping[str, Variant]) -> Table:
    """What each variant claimed, did, and why; over several seeds the mean and its scatter."""
    first = reports[0]
    runs = len({report["seed"] for report in reports})
    seeds = f"seed {first['seed']}" if runs == 1 else f"{runs} seeds"
    table = Table(
        title=escape(
            f"{first['scenario']} · {seeds} · {first['corpus']['name']}, "
            f"{percent(first['cache']['repeats_in_input'])} repeats"
        ),
        title_justify="left",
        expand=False,
        show_lines=True,
    )
    groups = by_variant(reports)
    # A long name is folded: what does not fit an unwrapped column would be cut off.
    table.add_column("variant", no_wrap=max(map(len, groups)) <= 24, overflow="fold")
    for header, width in (("claimed", 24), ("here", 30), ("why", 60)):
        table.add_column(header, max_width=width, overflow="fold")
    for name, group in groups.items():
        variant = variants.get(group[0]["variant"], Variant())
        told = min(group, key=lambda report: (report["valid"], report["slo"]["passed"]))
        why = f"seed {told['seed']}: {_why(told)}" if len(group) > 1 else _why(told)
        row = (_title(name, group), escape(variant.claim), _here(group), escape(why))
        table.add_row(*row)
    return table


def _title(name: str, group: Sequence[Report]) -> str:
    return f"[bold]{escape(name)}[/]\n{_state(group)}"


def _state(group: Sequence[Report]) -> str:
    """Whether the promises were kept, and whether that was expected."""
    if not all(report["valid"] for report in group):
        return "[bold red]INVALID[/]"
    if any(report["stopped"] == "interrupted" for report in group):
        return "[yellow]interrupted[/]"
    passed = [report["slo"]["passed"] for report in group]
    expected = group[0]["expect"] == "pass"
    if all(passed) and not any(report["ok"] for report in group):
        return "[bold red]nothing succeeded[/]"
    if all(passed):
        return "[green]holds[/]" if expected else "[red]holds (unexpected)[/]"
    failed = "fails" if not any(passed) else f"fails {passed.count(False)} of {len(passed)}"
    return f"[yellow]{failed}, as expected[/]" if not expected else f"[bold red]{failed}[/]"


def _here(group: Sequence[Report]) -> str:
    speeds = [report["throughput_per_s"] for report in group]
    scatter = f" ± {stdev(speeds):.2f}" if len(speeds) > 1 else ""
    speed = rate(fmean(speeds)).replace("/s", f"{scatter}/s")
    # Down: 999.6 of 1,000 is not 1,000.
    ok = floor(fmean(report["ok"] for report in group))
    n = fmean(report["requests"] for report in group)
    took = length(fmean(report["duration_s"] for report in group))
    lines = [f"{speed}, {ok:,} of {n:,.0f} ok in {took}", *_batches(group), *_spike(group)]
    lines += [_money(group), *_labels(group)]
    cache = group[0]["cache"]
    if cache["lookups"]:
        lines.append(
            f"cache hits {percent(fmean(report['cache']['hit_rate'] for report in group))}, "
            f"repeats in input {percent(cache['repeats_in_input'])}"
        )
    return "\n".join(lines)


def _batches(group: Sequence[Report]) -> Iterator[str]:
    """How long a batch took: the first, the one in the middle, the last."""
    times = [report["batch_s"] for report in group]
    first, middle, last = (fmean(time[name] for time in times) for name in ("first", "p50", "last"))
    if middle > 0:
        yield f"a batch: {first:.1f} s at first, median {middle:.1f} s, {last:.1f} s at last"


def _spike(group: Sequence[Report]) -> Iterator[str]:
    """How soon the service was itself again after a spike; of several seeds the worst."""
    told = [report for report in group if report.get("spike")]
    if told:
        yield spike_text(told)


def spike_text(told: Sequence[Report]) -> str:
    """The same, of runs that had one."""
    lost = [report["spike"] for report in told if report["recovery_s"] is None]
    if storms := [spike for spike in lost if not spike.get("too_few")]:
        calls = fmean(spike["at_last"]["attempts"] for spike in storms)
        return f"never back after the spike: {calls:.1f} calls a request at the end"
    if lost:
        return f"after the spike: {lost[0]['too_few']}"
    return f"back {length(max(report['recovery_s'] for report in told))} after the spike"


def _money(group: Sequence[Report]) -> str:
    cost = usd(fmean(report["cost_usd"] for report in group))
    if not all(report["baseline_cost_usd"] for report in group):
        return cost
    saved = fmean(report["cost_reduction"] for report in group)
    return f"{cost}, {percent(abs(saved))} {'below' if saved >= 0 else 'over'} baseline"


def _labels(group: Sequence[Report]) -> Iterator[str]:
    """Over several seeds without the interval, which is of one."""
    values = [report["accuracy"]["value"] for report in group]
    if None in values:
        return
    one = group[0]["accuracy"]
    low, high = floor(one["low"] * 100), ceil(one["high"] * 100)  # outwards: never too narrow
    interval = f" ({low}-{high} %)" if len(group) == 1 else ""
    yield f"labels {percent(fmean(values))} right{interval}"


def _why(report: Report) -> str:
    if not report["valid"]:
        return "; ".join(report["invalid_reasons"])
    lines = [bottleneck["text"] for bottleneck in report["bottlenecks"][:3]]
    lines += [f"client: {text}" for text in _client(report)][:3]
    missed = [check for check in report["slo"]["checks"] if not check["passed"]]
    lines += [f"missed: {_check(check)}" for check in missed]
    return "\n".join(lines)


def _client(report: Report) -> list[str]:
    """The findings on a client that no bottleneck has told already."""
    causes = {bottleneck["cause"] for bottleneck in report["bottlenecks"]}
    findings = report["client_findings"]
    return [one["text"] for one in findings if not causes & _SAME.get(one["name"], set())]


def _check(check: Report) -> str:
    value = check["value"]
    shown = "nothing measured" if value is None else f"{value:.4g}"
    return f"{check['metric']} {check['bound']} ({shown})"
