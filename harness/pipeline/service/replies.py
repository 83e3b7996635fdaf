"""What the service says: results, refusals and failures, one envelope for all errors."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from harness.attribution import stages, verdict
from harness.pipeline.service.batches import Batch
from harness.pipeline.service.bodies import Complaint
from harness.pipeline.service.tickets import Reason, Refused, Served
from harness.records import Record

JSON = "application/json"


class Reply(NamedTuple):
    """An answer of the service."""

    status: int
    body: bytes
    headers: dict[str, str] = {}
    content_type: str = JSON


_REFUSALS: dict[Reason, tuple[int, str, str]] = {
    "rate_limit": (429, "rate_limited", "this user has had as many requests as a minute allows"),
    "full": (503, "queue_full", "the queue is full"),
    "too_late": (503, "too_late", "the answer would come after the deadline"),
    "budget": (402, "budget_exhausted", "the budget is spent"),
    "draining": (503, "draining", "the service is stopping"),
    "key_taken": (409, "key_taken", "this X-Request-Key belongs to another user or review"),
    "cancelled": (409, "cancelled", "the request was withdrawn"),
    "expired": (408, "deadline_expired", "no time is left"),
    "internal": (500, "internal", "an error of the service itself; its log has it"),
    "journal": (503, "journal", "the journal cannot be written, so nothing is sent"),
}


def error(
    status: int, kind: str, message: str, headers: dict[str, str] | None = None, **more: Any
) -> Reply:
    """An error in the envelope that all of them share; what is None is left out."""
    told = {name: value for name, value in more.items() if value is not None}
    body = {"error": {"type": kind, "message": message, **told}}
    return Reply(status, msgspec.json.encode(body), headers or {})


def complaint(found: Complaint) -> Reply:
    """What is wrong with the request."""
    return error(found.status, found.kind, found.message, field=found.field)


def refusal(refused: Refused, key: str | None = None) -> Reply:
    """A request that is not served; Retry-After is whole seconds, the body has the exact time."""
    status, kind, message = _REFUSALS[refused.reason]
    wait_s = refused.retry_after_s
    headers = {} if wait_s is None else {"Retry-After": str(math.ceil(wait_s))}
    return error(status, kind, message, headers, retry_after_s=wait_s, key=key)


def served(found: Served) -> Reply:
    """A result, or how a request has failed, with where its time went."""
    rows, answer = found.rows, found.answer
    last = rows[-1]
    headers = {
        "Server-Timing": server_timing(rows),
        "X-Attempts": str(sum(row.t_sent is not None for row in rows)),
        "X-Cost-USD": f"{sum(row.cost_usd for row in rows):.9f}",
        "X-Request-Key": last.key,
        "X-Cache": last.cache,
    }
    if answer is None:
        return _failure(rows, headers)
    body = {
        "key": last.key,
        "label": answer.label,
        "text": answer.text,
        "model": last.model,
        "attempts": int(headers["X-Attempts"]),
        "cost_usd": sum(row.cost_usd for row in rows),
        "cache": last.cache,
    }
    return Reply(200, msgspec.json.encode(body), headers)


def _failure(rows: Sequence[Record], headers: dict[str, str]) -> Reply:
    last, cause = rows[-1], verdict(rows)
    if last.error in _REFUSALS:
        status, kind, message = _REFUSALS[last.error]
    elif last.outcome == "timed_out":
        status, kind, message = 504, "timed_out", f"no answer in time: {cause}"
    else:
        status, kind, message = 502, "upstream_failed", f"the provider gave no answer: {cause}"
    return error(status, kind, message, headers, cause=cause, key=last.key)


def server_timing(rows: Sequence[Record]) -> str:
    """`Server-Timing` of a request, milliseconds: its stages over all attempts, and the total."""
    spent: dict[str, float] = {str(stage): took for stage, took in stages(rows).items()}
    waits = [row for row in rows if not row.new_connection and row.t_connected is not None]
    pool = sum((row.t_connected or 0.0) - (row.t_slot or 0.0) for row in waits if row.t_slot)
    spent["connect"] -= pool
    named = {"pool": pool, **spent, "total": rows[-1].t_end - rows[0].t_queued}
    return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in named.items())


def progress(batch: Batch) -> dict[str, Any]:
    """How far a batch has come."""
    done = len(batch.results)
    return {
        "id": batch.id,
        "status": batch.status,
        "total": batch.total,
        "done": done,
        "outcomes": dict(sorted(batch.outcomes.items())),
        "cost_usd": batch.cost_usd,
        "cache_hits": batch.hits,
        "hit_rate": batch.hits / done if done else 0.0,
        "repeats_in_input": batch.repeats,
        "possibly_paid_twice_usd": sum(one.usd for one in batch.doubts),
        "possibly_paid_twice": batch.doubts,
    }
