"""What a client made of a bad answer, or of none: waited, gave up, believed it, paid again."""

from math import fsum

from harness.client_findings.traffic import Finding, Traffic, answered, clock_s, counted
from mock_llm.ledger import Row

PATIENCE_S = 60.0  # a minute without a word is long for any call
STOPPED_S = 1.0
SHORT_WAIT_S = 30.0
_SILENT = frozenset({"hang", "stall", "keep_alive"})


def no_timeout(traffic: Traffic) -> Finding | None:
    """It waited for an answer that never came, for ever or far too long."""
    silent = [row for row in traffic.rows if row.ending in _SILENT]
    waiting = [row for row in silent if row.ended in {"", "shutdown"}] if traffic.over else []
    stuck = [row for row in silent if row.key in traffic.stuck and row.ended != "refused"]
    long = [row for row in silent if _waited_s(traffic, row) > PATIENCE_S]
    late = [row for row in waiting if _waited_s(traffic, row) > STOPPED_S]
    rows = stuck or long or late
    if not rows:
        return None
    longest = clock_s(max(_waited_s(traffic, row) for row in rows))
    if stuck:
        text = f"{counted(len(rows), 'call')} would wait for ever for an answer that never comes"
    elif long:
        text = f"waited up to {longest} for {counted(len(rows), 'answer')} that never came"
    else:
        text = f"{counted(len(rows), 'call')} still waited after {longest} when the mock stopped"
    return Finding(
        name="no_timeout",
        severity="error",
        text=text,
        advice="give every attempt a limit on its whole length: one on each read is defeated by "
        "keep-alives",
        rows=tuple(rows),
    )


def _waited_s(traffic: Traffic, row: Row) -> float:
    """Seconds since the last word of an answer, else since the request."""
    heard_s = row.arrived_s if row.last_token_s is None else row.last_token_s
    return traffic.end_s(row) - heard_s


def took_truncated_for_success(traffic: Traffic) -> Finding | None:
    """An answer that was none, or half of one, was the request's last and nobody complained."""
    last = [
        rows[-1]
        for rows in traffic.requests
        if rows[-1].ended == "broken" and not any(map(answered, rows))
    ]
    if traffic.succeeded is not None:
        last = [row for row in last if row.key in traffic.succeeded]
        told = "handed {} to its caller as success"
    else:
        # A connection that breaks raises in any client: only a proper end goes unnoticed.
        last = [row for row in last if row.ending == "end"]
        told = "did not try again after {}; whether it failed instead, its caller has not said"
    if not last:
        return None
    kinds = sorted({name for row in last for name in row.injected})
    what = counted(len(last), "answer that was broken off or empty", "broken or empty answers")
    return Finding(
        name="took_truncated_for_success",
        severity="error" if traffic.succeeded is not None else "warning",
        text=told.format(f"{what} ({', '.join(kinds)})" if kinds else what),
        advice="an answer is whole with a choice, text, a finish_reason that is not `error` and, "
        "in a stream, `[DONE]`: anything less is a failure to retry",
        rows=tuple(last),
    )


def gave_up_on_retryable(traffic: Traffic) -> Finding | None:
    """One refusal of the kind that passes was enough to give up."""
    rows = [
        row
        for (row, *more) in traffic.requests
        if not more and row.ended == "refused" and _passing(row)
        if row.retry_after_s is None or row.retry_after_s <= SHORT_WAIT_S
    ]
    if not rows:
        return None
    waits = [row.retry_after_s for row in rows if row.retry_after_s is not None]
    told = f", though it told to wait {clock_s(max(waits))} at most" if waits else ""
    statuses = " or ".join(str(status) for status in sorted({row.status for row in rows}))
    return Finding(
        name="gave_up_on_retryable",
        severity="warning",
        text=f"gave up {counted(len(rows), 'request')} at the first {statuses}{told}",
        advice="try again a few times, after the told wait where there is one: 408, 429, 5xx, and "
        "a 402 with Retry-After, pass",
        rows=tuple(rows),
    )


def paid_twice(traffic: Traffic) -> Finding | None:
    """Attempts that would have been answered were given up, or doubled, and billed all the same."""
    spent = [paid for rows in traffic.requests if len(paid := _paid(rows)) > 1]
    if not spent:
        return None
    twice = [row for rows in spent for row in rows]
    wasted = fsum(fsum(row.billed_usd for row in rows[:-1]) for rows in spent)
    total = fsum(row.billed_usd for row in traffic.rows)
    return Finding(
        name="paid_twice",
        severity="warning",
        text=f"paid {counted(len(spent), 'request')} more than once: ${wasted:.6f} of "
        f"${total:.6f} bought nothing",
        advice="a call that is given up is billed in full: wait longer than the slowest good "
        "answers take, and send no second attempt beside the first",
        rows=tuple(twice),
    )


def _paid(rows: list[Row]) -> list[Row]:
    """The attempts that were billed though the provider broke none of them off."""
    return [row for row in rows if row.billed_usd > 0 and row.ending == "clean"]


def not_retried(traffic: Traffic, status: int | None = None) -> list[Row]:
    """The attempts that failed in passing, and were their request's last.

    Args:
        traffic: of the client.
        status: only these refusals; None: every passing failure.
    """
    last = [rows[-1] for rows in traffic.requests if not any(map(answered, rows))]
    if status is not None:
        return [row for row in last if row.ended == "refused" and row.status == status]
    return [row for row in last if _passing(row)]


def _passing(row: Row) -> bool:
    if row.ended == "refused":
        hinted = row.status == 402 and row.retry_after_s is not None
        return hinted or row.status in {408, 429} or row.status >= 500
    return row.ended == "broken" or (row.ended == "client_left" and row.ending in _SILENT)
