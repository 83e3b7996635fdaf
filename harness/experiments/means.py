"""Several seeds of one variant, told as one: mean, scatter and interval of each figure."""

from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import Any

from harness.statistics import interval

_MEANS = (
    *("requests", "ok", "timed_out", "failed", "rejected", "attempts", "duration_s"),
    *("throughput_per_s", "success_rate", "timeout_rate", "cost_usd", "baseline_cost_usd"),
    *("cost_reduction", "latency_s.mean", "latency_s.p50", "latency_s.p95", "latency_s.p99"),
    *("cache.hit_rate", "accuracy.value"),
)


def means(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean, scatter and t interval over seeds, by variant and engine, in order of appearance."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for report in reports:
        groups.setdefault((report["variant"], report["engine"]), []).append(report)
    return [
        {"variant": variant, "engine": engine, "runs": len(group), **_means_of(group)}
        for (variant, engine), group in groups.items()
    ]


def _means_of(group: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in _MEANS:
        values = [_at(report, path) for report in group]
        known = [value for value in values if value is not None]
        if known:
            mean, several = interval(known), len(known) > 1
            sd, half = (stdev(known), mean.half_width) if several else (None, None)
            found[path] = {"mean": mean.mean, "sd": sd, "half_width_95": half}
    return found


def _at(report: Mapping[str, Any], path: str) -> float | None:
    value: Any = report
    for part in path.split("."):
        value = value[part]
    return value if value is None else float(value)
