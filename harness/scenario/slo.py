"""The promises of a scenario: `"latency_s.p95" = "<= 10"`."""

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from mock_llm.strict import FieldError, suggest

ADDED = ("p50", "p99", "service_p50", "service_p99")
"""Of what a load test alone can measure: what all but the provider adds, and its service alone."""

KNOWN_METRICS = (
    "requests",
    "ok",
    "timed_out",
    "failed",
    "rejected",
    "lost",
    "attempts",
    "duration_s",
    "throughput_per_s",
    "success_rate",
    "timeout_rate",
    "cost_usd",
    "cost_reduction",
    "recovery_s",
    *(f"added_s.{name}" for name in ADDED),
    "accuracy.value",
    "cache.hit_rate",
    "latency_s.mean",
    "latency_s.p50",
    "latency_s.p90",
    "latency_s.p95",
    "latency_s.p99",
    "latency_s.max",
    "latency_ok_s.p50",
    "latency_ok_s.p95",
    "latency_ok_s.p99",
    "context_bytes.peak",
)

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
}
_BOUND = re.compile(r"\s*(<=|>=|==|<|>)\s*([-+.\w]+)\s*")


class Bound(msgspec.Struct, frozen=True):
    """One promise: the metric stands in relation `op` to the limit.

    Attributes:
        metric: dotted path into a run's results.
        op: `<=`, `>=`, `<`, `>` or `==`.
        limit: finite, in the metric's own unit.
    """

    metric: str
    op: str
    limit: float

    def holds(self, value: float) -> bool:
        """Whether a measured value keeps the promise; nan (nothing measured) never does."""
        return _OPERATORS[self.op](value, self.limit)


def parse_slo(
    bounds: Mapping[str, str], known: Collection[str] | None = KNOWN_METRICS
) -> tuple[Bound, ...]:
    """The bounds of an `[slo]` table, in its order.

    Args:
        bounds: metric -> bound, such as `{"latency_s.p95": "<= 10"}`.
        known: metrics there are; None: any name will do.

    Raises:
        FieldError: an unknown metric, operator or number; the path starts with `slo`.
    """
    return tuple(_parse(metric, text, known) for metric, text in bounds.items())


def _parse(metric: str, text: str, known: Collection[str] | None) -> Bound:
    if known is not None and metric not in known:
        raise FieldError(("slo", metric), f"unknown metric; {suggest(metric, list(known))}")
    found = _BOUND.fullmatch(text)
    limit = _number(found[2]) if found else math.nan
    if not found or not math.isfinite(limit):
        wanted = f"one of {' '.join(_OPERATORS)} and a number, such as '<= 600'"
        raise FieldError(("slo", metric), f"expected {wanted}, got {text!r}")
    return Bound(metric, found[1], limit)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def flat(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """`latency_s.p95 = ...` without quotes is a table in a table; metrics are flat names."""
    leaves: dict[str, Any] = {}
    for key, value in table.items():
        leaves |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return leaves
