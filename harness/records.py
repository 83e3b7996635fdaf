"""The record: one flat immutable row per attempt; everything else is derived from rows.

A request that never sent anything (a cache hit, a deadline before its first send) has one row with
`attempt = 0`, so that every request has at least one row. Times are seconds of the engine's clock,
from the start of the run; a time is None when the attempt never got so far.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness.files import write_whole

Cache = Literal["", "hit", "near", "miss"]
HITS: frozenset[Cache] = frozenset({"hit", "near"})
Outcome = Literal["ok", "timed_out", "failed", "rejected"]


def _required() -> Any:
    """A row without it is none; Python wants a default behind those that have one."""
    raise msgspec.ValidationError("a row needs t_intended, t_queued, t_end and outcome")


class Record(msgspec.Struct, frozen=True, gc=False):
    """One attempt.

    Attributes:
        key: identity of the request in its run.
        attempt: 1, 2, ... for attempts that were made; 0 when none was.
        user: whose review it is.
        batch: number of the batch, from 0, in input order.
        worker: which worker (slot) handled it.
        model: model id that was asked.
        tier: rank of its price, cheapest 1.
        new_connection: a connection was opened for it.
        t_intended: intended start of the request; the same in all its rows.
        t_queued: joined the queue (first attempt) or came back from its backoff (later ones).
        t_admitted: left the queue.
        t_limited: let through by the per-user limit.
        t_slot: has its slot.
        t_connected: has a connection.
        t_sent: the request goes out: at once when there is a connection for it.
        t_headers: status line and headers read.
        t_first_token: first byte of an answer that is not a keep-alive.
        t_last_token: last byte of the answer.
        t_end: the attempt's end, whatever it was.
        status: HTTP status, None when none came.
        outcome: of this attempt; the last attempt's is the request's.
        error: what went wrong, one word; "" when nothing did.
        retry_after_s: the provider's hint.
        prompt_tokens: as billed; for a cache hit what it saved.
        cached_tokens: of these, served by the provider's prompt cache.
        completion_tokens: as billed; for a cache hit what it saved.
        cost_usd: dollars; for an attempt given up by us an estimate of what it will be billed.
        cache: `hit`, `near` for nearly the same text, `miss`, or "" when there is no cache.
    """

    key: str
    attempt: int
    user: str = ""
    batch: int = 0
    worker: int = 0
    model: str = ""
    tier: int = 0
    new_connection: bool = False
    t_intended: float = msgspec.field(default_factory=_required)
    t_queued: float = msgspec.field(default_factory=_required)
    t_admitted: float | None = None
    t_limited: float | None = None
    t_slot: float | None = None
    t_connected: float | None = None
    t_sent: float | None = None
    t_headers: float | None = None
    t_first_token: float | None = None
    t_last_token: float | None = None
    t_end: float = msgspec.field(default_factory=_required)
    status: int | None = None
    outcome: Outcome = msgspec.field(default_factory=_required)
    error: str = ""
    retry_after_s: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    cache: Cache = ""


TIMES = tuple(name for name in Record.__struct_fields__ if name.startswith("t_"))


def moved(record: Record, by_s: float) -> Record:
    """The same row on a clock that is so much ahead."""
    times = {n: t + by_s for n in TIMES if (t := getattr(record, n)) is not None}
    return msgspec.structs.replace(record, **times)


HEDGE_LOST = "hedge_lost"
"""The error word of a call whose twin answered first."""


LOST = "lost"
"""The error word of a request that was asked, and of which whoever should serve it knows nothing.
"""


def lost(key: str, user: str, t_intended: float, t_end: float) -> Record:
    """The one row of a request that was lost, and given up at `t_end`."""
    return Record(
        key=key,
        attempt=0,
        user=user,
        t_intended=t_intended,
        t_queued=t_intended,
        t_end=t_end,
        outcome="failed",
        error=LOST,
    )


def in_order(records: Iterable[Record]) -> list[Record]:
    """Rows sorted by request, then attempt; a call that lost its race is never the last."""
    return sorted(records, key=lambda row: (row.key, row.error != HEDGE_LOST, row.attempt))


def requests(records: Iterable[Record]) -> Iterator[Sequence[Record]]:
    """Rows of one request at a time, attempts in order."""
    for _, rows in groupby(in_order(records), key=lambda row: row.key):
        yield tuple(rows)


def rounded(record: Record) -> dict[str, object]:
    """A row as plain values, its times to the microsecond."""
    row: dict[str, object] = msgspec.structs.asdict(record)
    for name in TIMES:
        value = row[name]
        row[name] = round(value, 6) if isinstance(value, float) else value
    return row


def records_sha256(records: Iterable[Record]) -> str:
    """Digest of a run: equal for equal rows, whatever order they were made in."""
    digest = hashlib.sha256()
    for record in in_order(records):
        digest.update(msgspec.json.encode(rounded(record)))
        digest.update(b"\n")
    return digest.hexdigest()


def write_jsonl(records: Iterable[Record], path: Path) -> None:
    """Write rows in order, one JSON object a line; a reader never sees half a file."""
    write_whole(path, (msgspec.json.encode(record) + b"\n" for record in in_order(records)))


def read_jsonl(path: Path) -> list[Record]:
    """Rows of a file that `write_jsonl` wrote.

    Raises:
        OSError: it cannot be read.
        msgspec.DecodeError: a line is not a record.
    """
    decoder = msgspec.json.Decoder(Record)
    return [decoder.decode(line) for line in path.read_bytes().splitlines()]
