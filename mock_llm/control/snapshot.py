"""What can be seen of a running mock at one moment; several processes' add up to one."""

from collections.abc import Sequence
from typing import Any

import msgspec

from mock_llm.fidelity import Fidelity, judge
from mock_llm.gauges import WINDOW_S, Tally, bounded
from mock_llm.histogram import Histogram
from mock_llm.ledger import Change, Row
from mock_llm.masking import masked_table
from mock_llm.server import MockServer

_RECENT_S = 5


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A mock at one moment, in figures that can be added up.

    Attributes:
        at_s: loop time.
        uptime_s: since it could first be asked.
        seed: of its weather.
        upstream: the provider that it imitates, as plain data; keys masked.
        paused: attempts wait before they are admitted.
        in_flight: attempts under way.
        total: since the start, or the last reset.
        minute: of the last 60 s.
        recent: of the last 5 s.
        rates: attempts that ended in each of the last 60 whole seconds, oldest first.
        fired: the last attempts that faults struck, oldest first; some may still go on.
        changes: the last changes by control, oldest first.
        cpu_share: of one core; of several processes the largest.
        warnings: seconds in which the mock was the bottleneck.
        workers: processes that this is the sum of.
    """

    at_s: float
    uptime_s: float
    seed: int
    upstream: dict[str, Any]
    paused: bool
    in_flight: int
    total: Tally
    minute: Tally
    recent: Tally
    rates: list[int]
    fired: list[Row]
    changes: list[Change]
    cpu_share: float
    warnings: int
    workers: int = 1


def snapshot_of(server: MockServer, now: float) -> Snapshot:
    """Look at a server, at `now` of its loop."""
    ledger, gauges = server.ledger, server.ledger.gauges
    return Snapshot(
        at_s=now,
        uptime_s=0.0 if server.began_s is None else now - server.began_s,
        seed=server.seed,
        upstream=masked_table(msgspec.to_builtins(server.upstream)),
        paused=server.paused,
        in_flight=ledger.in_flight,
        total=gauges.total(),
        minute=gauges.last(WINDOW_S, now),
        recent=gauges.last(_RECENT_S, now),
        rates=gauges.rates(now),
        fired=list(ledger.fired),
        changes=list(ledger.changes),
        cpu_share=gauges.cpu_share,
        warnings=gauges.warnings,
    )


def merge(parts: Sequence[Snapshot]) -> Snapshot:
    """One snapshot of several processes' that serve one upstream together; there is one at least.

    All of them have had the same commands, so what those decide is taken from the first.
    """
    if len(parts) == 1:
        return parts[0]
    fired = sorted((row for one in parts for row in one.fired), key=lambda row: row.arrived_s)
    return msgspec.structs.replace(
        parts[0],
        uptime_s=max(one.uptime_s for one in parts),
        paused=any(one.paused for one in parts),
        in_flight=sum(one.in_flight for one in parts),
        total=bounded(Tally.sum_of(one.total for one in parts)),
        minute=bounded(Tally.sum_of(one.minute for one in parts)),
        recent=bounded(Tally.sum_of(one.recent for one in parts)),
        rates=[sum(each) for each in zip(*(one.rates for one in parts), strict=True)],
        fired=fired[-50:],
        cpu_share=max(one.cpu_share for one in parts),
        warnings=max(one.warnings for one in parts),
        workers=sum(one.workers for one in parts),
    )


def view(seen: Snapshot) -> dict[str, Any]:
    """A snapshot as people and programs want to read it: quantiles in place of buckets."""
    return {
        "at_s": seen.at_s,
        "uptime_s": seen.uptime_s,
        "workers": seen.workers,
        "seed": seen.seed,
        "paused": seen.paused,
        "in_flight": seen.in_flight,
        "total": _figures(seen.total),
        "minute": _figures(seen.minute),
        "recent": _figures(seen.recent),
        "rates": seen.rates,
        "fidelity": {
            "total": _fidelity(judge(seen.total)),
            "minute": _fidelity(judge(seen.minute, seen.cpu_share)),
            "warnings": seen.warnings,
        },
        "fired": [_fired(row) for row in seen.fired],
        "changes": seen.changes[-20:],
        "upstream": seen.upstream,
    }


def _figures(tally: Tally) -> dict[str, Any]:
    return {
        "attempts": tally.attempts,
        "statuses": tally.by(0),
        "ended": tally.by(1),
        "models": tally.by(2),
        "faults": tally.faults,
        "throttled": tally.throttled,
        "prompt_tokens": tally.prompt_tokens,
        "completion_tokens": tally.completion_tokens,
        "billed_usd": tally.billed_usd,
        "latency_s": _spread(tally.latency),
        "delay_s": _spread(tally.delay),
    }


def _spread(durations: Histogram) -> dict[str, float]:
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {name: durations.quantile(share) for name, share in shares.items()} | {
        "max": durations.max_s
    }


def _fidelity(found: Fidelity) -> dict[str, Any]:
    return {"bottleneck": bool(found.reasons), **msgspec.structs.asdict(found)}


def _fired(row: Row) -> dict[str, Any]:
    names = ("key", "attempt", "model", "status", "injected", "admitted_s", "ended_s", "ended")
    return {name: getattr(row, name) for name in names}
