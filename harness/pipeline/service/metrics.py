"""What Prometheus reads of a service: made when it is asked for, from what is counted anyway."""

import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from harness.attribution import STAGES
from harness.pipeline.breaker import State
from harness.pipeline.client import ChatClient
from harness.pipeline.common import Common
from harness.pipeline.money import Purse
from harness.pipeline.service.batches import Batches
from harness.pipeline.service.core import Service
from harness.pipeline.service.lag import LagMeter
from harness.pipeline.service.monitor import BOUNDS_S, Histogram, Kind, Monitor
from harness.records import Outcome

_PAGE_BYTES = 4096  # of Linux on every machine that Python runs on without more ado
_KINDS: tuple[Kind, ...] = get_args(Kind)
_OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


class Watched(NamedTuple):
    """The parts of a service of which something is told.

    Attributes:
        lag: of the event loop; None: it is not measured, as on a virtual clock.
    """

    service: Service
    batches: Batches
    client: ChatClient
    common: Common
    purse: Purse
    monitor: Monitor
    lag: LagMeter | None = None


class Exposition:
    """The text of `/metrics`, in a registry of the service's own."""

    def __init__(self, watched: Watched) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Reader(watched))

    def __call__(self) -> tuple[bytes, str]:
        """The text and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _Reader(Collector):
    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def collect(self) -> Iterable[Metric]:
        one = self._watched
        now = asyncio.get_running_loop().time()
        yield from _traffic(one.monitor)
        yield from _work(one, now)
        yield from _guards(one.service, now)
        yield from _money(one.purse)
        yield from _cache(one.common, one.monitor)
        yield from _process(one.lag)


def _traffic(seen: Monitor) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "flight_requests", "Requests that ended.", labels=["kind", "outcome"]
    )
    for kind in _KINDS:  # all of them: a rate needs the zero before the first
        for outcome in _OUTCOMES:
            requests.add_metric([kind, outcome], seen.requests[kind, outcome])
    yield requests
    refusals = CounterMetricFamily(
        "flight_refusals", "Requests not let in.", labels=["kind", "reason"]
    )
    for (kind, reason), count in seen.refusals.items():
        refusals.add_metric([kind, reason], count)
    yield refusals
    attempts = CounterMetricFamily(
        "flight_attempts", "HTTP calls that ended.", labels=["model", "ended"]
    )
    models = {model for model, _ in seen.attempts}
    ends = {"2xx", "timed_out", *(ended for _, ended in seen.attempts)}
    for model in sorted(models):
        for ended in sorted(ends):
            attempts.add_metric([model, ended], seen.attempts[model, ended])
    yield attempts
    latency = HistogramMetricFamily(
        "flight_request_seconds", "From a request's arrival to its end.", labels=["kind"]
    )
    for kind in _KINDS:
        latency.add_metric([kind], *_buckets(seen.latency[kind]))
    yield latency
    service = HistogramMetricFamily(
        "flight_attempt_seconds", "From an HTTP call's sending to its end.", labels=[]
    )
    service.add_metric([], *_buckets(seen.service))
    yield service
    yield _counter(
        "flight_stage_seconds", "Where requests spent their time.", "stage", STAGES, seen.stages_s
    )
    kinds = ("prompt", "cached", "completion")
    yield _counter(
        "flight_tokens", "As billed; cached ones are among prompt.", "kind", kinds, seen.tokens
    )


def _work(one: Watched, now: float) -> Iterator[Metric]:
    service, room = one.service, one.service.room
    yield _gauge("flight_queue_depth", "Requests that wait for a worker.", room.depth)
    yield _gauge(
        "flight_queue_oldest_age_seconds",
        "How long the oldest of them has waited.",
        room.oldest_age_s(now),
    )
    yield _gauge("flight_workers", "Size of the pool.", service.workers)
    yield _gauge("flight_workers_busy", "Workers that serve.", service.busy)
    yield _gauge("flight_batches_running", "Batches that are not done.", one.batches.running)
    yield _gauge("flight_draining", "1 while nothing new is let in.", service.draining)
    processor, calls = service.processor, one.client.statistics()
    gate = processor.guards.gate
    states = {
        "waiting": room.depth,
        "at_the_gate": gate.waiting if gate else 0,
        "in_attempt": calls.in_flight,
        "backing_off": processor.backing_off,
    }
    in_flight = GaugeMetricFamily(
        "flight_in_flight", "Requests, and HTTP calls, by state.", labels=["state"]
    )
    for state, count in states.items():
        in_flight.add_metric([state], count)
    yield in_flight
    pool = GaugeMetricFamily(
        "flight_connections", "Connections to the provider, and waits.", labels=["state"]
    )
    counts = {"open": calls.open, "in_use": calls.in_use, "waited_for": calls.waiting}
    for state, count in counts.items():
        pool.add_metric([state], count)
    yield pool
    made = "Connections to the provider that were begun."
    yield CounterMetricFamily("flight_connections_made", made, value=calls.made)


def _guards(service: Service, now: float) -> Iterator[Metric]:
    guards = service.processor.guards
    breakers = GaugeMetricFamily(
        "flight_breaker_state", "1 for the state that it is in.", labels=["model", "state"]
    )
    states: tuple[State, ...] = get_args(State)
    for model, now_in in guards.states().items():
        for state in states:
            breakers.add_metric([model, state], state == now_in)
    yield breakers
    if guards.gate is not None:
        yield _gauge("flight_adaptive_slots", "As adapted.", guards.gate.limit)
    left = guards.retries_left(now)
    if left is not None:
        yield _gauge("flight_retry_budget_left", "Retries that may be sent now.", left)


def _money(purse: Purse) -> Iterator[Metric]:
    found = purse.statistics()
    kinds = tuple(found.kind_usd)
    text = "Dollars spent, estimates included, by what they were good for."
    yield _counter("flight_spend_usd", text, "kind", kinds, found.kind_usd)
    yield _gauge("flight_reserved_usd", "For calls under way, at worst.", found.reserved_usd)
    yield _gauge("flight_held_usd", "What estimates may be short of.", found.held_usd)


def _cache(common: Common, seen: Monitor) -> Iterator[Metric]:
    text = "Requests that were served, by whether their text had been asked before."
    yield _counter("flight_texts", text, "asked", ("first", "before"), seen.texts)
    if common.cache is not None:
        counts = common.cache.statistics()
        hits = CounterMetricFamily("flight_cache_hits", "Answers.", labels=["tier", "how"])
        total = counts["misses"]
        for name, tier, how in (
            ("memory_hits", "memory", "exact"),
            ("near_hits", "memory", "near"),
            ("redis_hits", "redis", "exact"),
        ):
            hits.add_metric([tier, how], counts.get(name, 0))
            total += counts.get(name, 0)
        yield hits
        yield CounterMetricFamily("flight_cache_lookups", "Questions.", value=total)
        yield _gauge("flight_cache_entries", "Answers in memory.", counts["entries"])
    if common.link is not None:
        yield _gauge("flight_redis_up", "1 while Redis answers.", common.link.up)
        errors, text = common.link.errors, "Commands that failed or took too long."
        yield CounterMetricFamily("flight_redis_errors", text, value=errors)


def _process(lag: LagMeter | None) -> Iterator[Metric]:
    if lag is not None:
        text = "How late the event loop was, p99 of the last 10 s."
        yield _gauge("flight_loop_lag_p99_seconds", text, lag.p99_s())
    resident = _resident_bytes()
    if resident is not None:
        yield _gauge("flight_resident_bytes", "Memory of the process.", resident)
    blocks = sys.getallocatedblocks()
    yield _gauge("flight_allocated_blocks", "Pieces of memory that Python holds.", blocks)
    yield InfoMetricFamily("flight_build", "What is running.", value={"version": _version()})


def _resident_bytes() -> int | None:
    """From /proc/self/statm (proc(5)); None where there is no such file."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return None


def _version() -> str:
    try:
        return version("llm-flight-simulator")
    except PackageNotFoundError:
        return "unknown"


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _counter(
    name: str, text: str, label: str, values: Iterable[str], counts: Mapping[Any, float]
) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value in values:
        family.add_metric([value], counts.get(value, 0.0))
    return family


def _buckets(durations: Histogram) -> tuple[list[tuple[str, float]], float]:
    ends = [*map(repr, map(float, BOUNDS_S)), "+Inf"]
    totals = map(float, accumulate(durations.counts))
    return list(zip(ends, totals, strict=True)), durations.sum_s
