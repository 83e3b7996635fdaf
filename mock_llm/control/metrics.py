"""A snapshot in Prometheus' text format. Nothing is counted for it: it is made when it is read."""

from collections.abc import Iterable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from mock_llm.control.snapshot import Snapshot
from mock_llm.fidelity import judge
from mock_llm.histogram import Histogram

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE = CONTENT_TYPE_LATEST


def exposition(seen: Snapshot) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reader(seen))
    return generate_latest(registry)


class _Reader(Collector):
    def __init__(self, seen: Snapshot) -> None:
        self._seen = seen

    def collect(self) -> Iterable[Metric]:
        yield from _counters(self._seen)
        yield from _gauges(self._seen)
        total = self._seen.total
        for name, text, durations in (
            (
                "attempt_duration",
                "From an attempt's head to its end, whatever the end.",
                total.latency,
            ),
            ("answer_delay", "Actual minus planned beginning of answers.", total.delay),
            (
                "loop_lag",
                "How late the event loop came, evenly sampled while asked.",
                total.lag,
            ),
        ):
            yield _histogram(f"mock_llm_{name}_seconds", text, durations)


def _counters(seen: Snapshot) -> Iterator[Metric]:
    total = seen.total
    labels = ["status", "ended", "model"]
    attempts = CounterMetricFamily("mock_llm_attempts", "Attempts that ended.", labels=labels)
    for outcome, count in total.outcomes.items():
        attempts.add_metric(outcome.split(" ", 2), count)
    yield attempts
    faults = CounterMetricFamily("mock_llm_faults", "Faults that fired.", labels=["fault"])
    for name, count in total.faults.items():
        faults.add_metric([name], count)
    yield faults
    tokens = CounterMetricFamily(
        "mock_llm_tokens", "Tokens, as counted or billed.", labels=["kind"]
    )
    tokens.add_metric(["prompt"], total.prompt_tokens)
    tokens.add_metric(["completion"], total.completion_tokens)
    yield tokens
    for name, text, value in (
        ("billed_usd", "Dollars billed.", total.billed_usd),
        ("throttled", "Attempts that the throttle refused.", total.throttled),
        ("late_answers", "Answers later than planned by more than is allowed.", total.late),
    ):
        yield CounterMetricFamily(f"mock_llm_{name}", text, value=value)


def _gauges(seen: Snapshot) -> Iterator[Metric]:
    minute = judge(seen.minute, seen.cpu_share)
    for name, text, value in (
        ("in_flight", "Attempts under way.", seen.in_flight),
        ("paused", "1 while attempts wait before they are admitted.", seen.paused),
        (
            "bottleneck",
            "1 when the mock is what clients measure, last minute.",
            bool(minute.reasons),
        ),
        ("cpu_share", "Of one core, lately.", seen.cpu_share),
        ("uptime_seconds", "Since it could first be asked.", seen.uptime_s),
        ("workers", "Processes that serve together.", seen.workers),
    ):
        yield GaugeMetricFamily(f"mock_llm_{name}", text, value=float(value))


def _histogram(name: str, text: str, durations: Histogram) -> Metric:
    buckets = [(repr(end), float(count)) for end, count in durations.up_to()]
    buckets.append(("+Inf", float(durations.count)))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=durations.sum_s)
