"""Where a request's time went, and the cause of its end: pure functions of its records.

Theory of operation. An attempt passes through stages in a fixed order; each stage ends with a time
stamp of its own. The time between two stamps belongs to the stage that the later one ends; when an
attempt ends early, what is left belongs to the stage it was in. So the stages of a request add up
to its whole time, and a request that ran out of time was killed by the stage that took most of it,
which is not always the stage it was in when the limit struck: with a slot awaited inside the
limit, the provider would be blamed for the queue.

Only the client's own records are read; what a mock injected is for tests to compare with.
"""

from collections.abc import Sequence
from typing import Literal, get_args

from harness.records import HEDGE_LOST, Record

Stage = Literal["queue", "limiter", "slot", "backoff", "connect", "first_token", "body"]
STAGES: tuple[Stage, ...] = get_args(Stage)

# Each stage with the stamp that ends it. Headers are no stage of their own: OpenRouter sends them
# with the first keep-alive, long before there is anything to read.
_ENDS: tuple[tuple[Stage, str], ...] = (
    ("queue", "t_admitted"),
    ("limiter", "t_limited"),
    ("slot", "t_slot"),
    ("connect", "t_connected"),
    ("first_token", "t_first_token"),
    ("body", "t_last_token"),
)

# A request that ran out of time, by the stage that used it up.
_VERDICTS: dict[Stage, str] = {
    "queue": "queue",
    "limiter": "limiter",
    "slot": "slot",
    "backoff": "backoff",
    "connect": "connect",
    "first_token": "no_first_token",
    "body": "stall",
}


def attempt_stages(record: Record) -> dict[Stage, float]:
    """Seconds of one attempt by stage, stages never reached left out; they add up to its length."""
    spent: dict[Stage, float] = {}
    since = record.t_queued
    for stage, stamp in _ENDS:
        until: float | None = getattr(record, stamp)
        if until is None:
            spent[stage] = record.t_end - since
            return spent
        spent[stage] = until - since
        since = until
    spent["body"] += record.t_end - since
    return spent


def stages(rows: Sequence[Record]) -> dict[Stage, float]:
    """Seconds of one request by stage, backoff between attempts included.

    Args:
        rows: all rows of one request, attempts in order.

    Returns:
        Every stage; they add up to last t_end - first t_queued.
    """
    spent: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
    rows = [row for row in rows if row.error != HEDGE_LOST]  # it ran beside the one that counts
    for previous, row in zip((None, *rows), rows, strict=False):
        if previous is not None:
            # Never negative: a foreign client's calls for one review may overlap.
            spent["backoff"] += max(0.0, row.t_queued - previous.t_end)
        for stage, seconds in attempt_stages(row).items():
            spent[stage] += seconds
    return spent


def _blamed(rows: Sequence[Record]) -> str:
    """The stage that used up the time since admission: waiting for one's turn is no fault."""
    spent = stages(rows)
    if rows[0].t_admitted is not None:
        del spent["queue"]
    worst = max(spent, key=lambda stage: spent[stage])
    # Where no connection was opened, the time went into waiting for a pooled one.
    if worst == "connect" and not rows[-1].new_connection:
        return "pool"
    return _VERDICTS[worst]


def verdict(rows: Sequence[Record], slowest_answer_s: float = 0.0) -> str | None:
    """The cause of a request's failure, or None when it succeeded.

    Args:
        rows: all rows of one request, attempts in order.
        slowest_answer_s: of the run: a request that the job's end met sooner after its admission
            was late through no fault of its provider.

    Returns:
        For a time-out `queue`, `limiter`, `slot`, `pool`, `connect`, `no_first_token`, `stall`,
        `backoff`, or `job_deadline` for a request that the job's end met no later than its
        admission.
        For an answer that refuses `refused` (429 or 402) or `server_error`; for anything else the
        record's own error word.
    """
    last = rows[-1]
    if last.outcome == "ok":
        return None
    if last.error == "job_deadline":
        admitted = rows[0].t_admitted
        if admitted is None or last.t_end - admitted <= slowest_answer_s:
            return "job_deadline"
    if last.outcome == "timed_out" or last.error == "never_answered":
        return _blamed(rows)
    if last.status in {402, 429}:
        return "refused"
    if last.status is not None and last.status >= 500:
        return "server_error"
    return last.error or last.outcome
