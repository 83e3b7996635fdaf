"""Which variant is best, what holds it back, and what the others lose to.

Both go by the bottlenecks, never by a variant's name: rename them all and they say the same.
"""

from collections.abc import Sequence

from harness.report.table import Report, by_variant
from harness.report.text import rate

# What a reader should hear about even when it is not the best variant's own trouble.
_LESSONS = (
    "barrier",
    "semaphore_not_acquired",
    "slot_inside_limit",
    "waits_for_ever",
    "no_time_limit",
    "limit_too_long",
    "patience",
    "serial",
)


def best_of(reports: Sequence[Report]) -> str | None:
    """The fastest valid variant of those that keep their promises, else of all; None without."""
    groups = by_variant(reports)
    sound = {name: group for name, group in groups.items() if all(map(_whole, group))}
    kept = {n: g for n, g in sound.items() if all(map(_keeps, g))} or sound
    return max(kept, key=lambda name: _mean_speed(kept[name])) if kept else None


def headline(reports: Sequence[Report]) -> str:
    """The best variant and what holds it back."""
    best = best_of(reports)
    if best is None:
        reasons = dict.fromkeys(why for report in reports for why in report["invalid_reasons"])
        told = "; ".join(reasons) or "interrupted before the first of them had ended"
        return f"No variant is valid: {told}"
    group = by_variant(reports)[best]
    found = group[0]["bottlenecks"]
    binds = found[0]["text"] if found else "nothing that its records show"
    kept = all(map(_keeps, group))
    if len(by_variant(reports)) == 1:
        praise = "keeps its promises" if kept else "breaks its promises"
    else:
        praise = "is the best" if kept else "breaks its promises as all do, and is the fastest"
    return f"{best} {praise} at {rate(_mean_speed(group))}; what holds it back: {binds}."


def lessons(reports: Sequence[Report]) -> list[str]:
    """What the others lose to: each lesson once, by the variant that it cost most."""
    best = best_of(reports)
    groups = by_variant(reports)
    return _lessons({name: group[0] for name, group in groups.items() if name != best})


def _keeps(report: Report) -> bool:
    """Keeps its promises; where nothing succeeded none are kept, were there any or not."""
    return bool(report["slo"]["passed"]) and report["ok"] > 0


def _whole(report: Report) -> bool:
    return bool(report["valid"]) and report["stopped"] != "interrupted"


def _mean_speed(group: Sequence[Report]) -> float:
    return sum(float(report["throughput_per_s"]) for report in group) / len(group)


def _lessons(reports: dict[str, Report]) -> list[str]:
    told = []
    for cause in _LESSONS:
        cases = [
            (bottleneck["lost"], name, bottleneck["text"])
            for name, report in reports.items()
            for bottleneck in report["bottlenecks"]
            if bottleneck["cause"] == cause
        ]
        if cases:
            # The first of equals: a storm's repetition of a calm day's fault teaches nothing new.
            _, name, text = max(cases, key=lambda case: case[0])
            told.append(f"{name}: {text}")
    return told
