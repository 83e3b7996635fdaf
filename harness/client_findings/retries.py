"""How a client tries again: what it must not, when it must not, and all at once."""

import itertools
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from harness.client_findings.traffic import Finding, Traffic, clock_s, counted, end_s
from mock_llm.ledger import Row

FINAL = frozenset({400, 401, 403, 404, 405, 413, 422})
MOST_ATTEMPTS = 6  # openai's client makes 3, the usual five tries of a careful one included
NO_PAUSE_S = 0.1
BURST = 3
HINT_TOLERANCE = 0.05  # a client that drops the fraction of a told wait has meant to honour it
HERD = 5
HERD_S = 0.05
TACIT_WAIT_S = 1.0  # what a 429 without a hint asks for at the very least


def retried_unretryable(traffic: Traffic) -> Finding | None:
    """An error that no repetition mends was sent again as it was."""
    again = [(first, then) for first, then in traffic.retries if final(first)]
    if not again:
        return None
    statuses = Counter(first.status for first, _ in again)
    told = ", ".join(f"{counted(n, 'time')} after a {status}" for status, n in statuses.items())
    return Finding(
        name="retried_unretryable",
        severity="warning",
        text=f"repeated what cannot succeed, {told}",
        advice="give up at once on 400, 401, 403, 404, 413, 422 and on a 402 without Retry-After",
        rows=_both(again),
    )


def final(row: Row) -> bool:
    """Whether the same request can never succeed after this answer."""
    return row.status in FINAL or (row.status == 402 and row.retry_after_s is None)


def ignored_retry_after(traffic: Traffic) -> Finding | None:
    """A retry came sooner than the refusal before it had told."""
    told = [(first, then) for first, then in traffic.retries if first.retry_after_s is not None]
    early = [
        (first, then)
        for first, then in told
        if _pause_s(first, then) < (1 - HINT_TOLERANCE) * (first.retry_after_s or 0.0)
    ]
    if not early:
        return None
    first, then = max(early, key=lambda pair: (pair[0].retry_after_s or 0.0) - _pause_s(*pair))
    return Finding(
        name="ignored_retry_after",
        severity="warning",
        text=f"came back too soon after {len(early):,} of {counted(len(told), 'told wait')}: "
        f"{clock_s(_pause_s(first, then))} after a {first.status} that told to wait "
        f"{clock_s(first.retry_after_s or 0.0)}",
        advice="wait at least as long as Retry-After says",
        rows=_both(early),
    )


def retry_storm(traffic: Traffic) -> Finding | None:
    """Too many attempts at one request, or attempts without a pause between them."""
    most = max(traffic.requests, key=len) if traffic.requests else []
    bursts = list(_bursts(traffic))
    if len(most) > MOST_ATTEMPTS:
        text = f"made {len(most)} attempts at one request"
        rows = tuple(most)
    elif bursts:
        longest = max(bursts, key=len)
        rows = tuple(longest)
        took = rows[-1].arrived_s - rows[0].arrived_s
        text = f"made {len(rows)} attempts at one request within {clock_s(took)}, without a pause"
    else:
        return None
    return Finding(
        name="retry_storm",
        severity="warning",
        text=text,
        advice="wait longer after every failure (0.5 s, 1 s, 2 s ... with jitter) and stop after "
        "a few attempts",
        rows=rows,
    )


def _bursts(traffic: Traffic) -> Iterator[list[Row]]:
    """Runs of attempts that followed each other at once, though nobody told them to."""
    run: list[Row] = []
    for first, then in traffic.retries:
        hasty = first.ended != "client_left" and not final(first) and not _told_to_hurry(first)
        if not hasty or _pause_s(first, then) >= NO_PAUSE_S:
            run = []
            continue
        run = [*run, then] if run and run[-1] is first else [first, then]
        if len(run) >= BURST:
            yield run


def _told_to_hurry(row: Row) -> bool:
    return row.retry_after_s is not None and row.retry_after_s < NO_PAUSE_S


def hammered_after_429(traffic: Traffic) -> Finding | None:
    """New requests went on while the provider had told to wait, only to be refused as well."""
    starts = [rows[0] for rows in traffic.requests]
    starts.sort(key=lambda row: row.arrived_s)
    arrivals = [row.arrived_s for row in starts]
    sent: dict[int, Row] = {}
    for row in traffic.rows:
        if row.status != 429 or row.headers_s is None:
            continue
        wait = TACIT_WAIT_S if row.retry_after_s is None else row.retry_after_s
        # What was under way when the refusal came could not know of it.
        low = bisect_right(arrivals, row.headers_s + HERD_S)
        for other in starts[low : bisect_left(arrivals, row.headers_s + wait)]:
            if other.key != row.key and other.account == row.account:
                sent[id(other)] = other
    refused = [row for row in sent.values() if row.status == 429]
    if len(refused) < HERD or 2 * len(refused) < len(sent):
        return None
    return Finding(
        name="hammered_after_429",
        severity="warning",
        text=f"sent {counted(len(sent), 'new request')} while a 429 had told to wait; "
        f"{len(refused):,} of them met the next 429",
        advice="a limit is the account's: after a 429 let every request wait, not only the one "
        "that met it, or keep to the limit from the start",
        rows=tuple(sorted(refused, key=lambda row: row.arrived_s)),
    )


def no_jitter(traffic: Traffic) -> Finding | None:
    """The retries of many requests arrived at one instant."""
    waves: defaultdict[int, list[Row]] = defaultdict(list)
    for rows in traffic.requests:
        for number, (first, then) in enumerate(itertools.pairwise(rows), 2):
            if end_s(first) <= then.arrived_s:
                waves[number].append(then)
    for number, wave in waves.items():
        herd = _densest(sorted(wave, key=lambda row: row.arrived_s))
        if len(herd) >= HERD and 2 * len(herd) >= len(wave):
            return Finding(
                name="no_jitter",
                severity="warning",
                text=f"{len(herd):,} of {counted(len(wave), 'request')} came with attempt {number} "
                f"within {clock_s(herd[-1].arrived_s - herd[0].arrived_s)} of each other",
                advice="add a random part to every wait, to that of Retry-After too, so that those "
                "who failed together do not come back together",
                rows=tuple(herd),
            )
    return None


def _densest(wave: list[Row]) -> list[Row]:
    """The most rows that arrived within `HERD_S`; `wave` is in order of arrival."""
    best: list[Row] = []
    low = 0
    for high, row in enumerate(wave):
        while row.arrived_s - wave[low].arrived_s > HERD_S:
            low += 1
        if high - low >= len(best):
            best = wave[low : high + 1]
    return best


def _pause_s(first: Row, then: Row) -> float:
    """Seconds that a client let pass between an answer and the next attempt."""
    heard_s = end_s(first) if first.headers_s is None else first.headers_s
    return then.arrived_s - (heard_s if first.ended == "refused" else end_s(first))


def _both(pairs: Iterable[tuple[Row, Row]]) -> tuple[Row, ...]:
    rows = {id(row): row for pair in pairs for row in pair}
    return tuple(sorted(rows.values(), key=lambda row: row.arrived_s))
