"""What a client did on the wire, and the form of a judgement on it."""

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal

import msgspec

from mock_llm.ledger import Row

Severity = Literal["error", "warning", "note"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One judgement.

    Attributes:
        name: see `client_findings.FINDINGS`.
        severity: `error` loses results, money or the whole run; `warning` makes a bad day of the
            provider worse; `note` costs a little.
        text: what the client did, with numbers, for a person.
        advice: the cure.
        rows: the attempts that show it, by time of arrival.
    """

    name: str
    severity: Severity
    text: str
    advice: str
    rows: tuple[Row, ...] = ()

    def told(self) -> dict[str, Any]:
        """The finding as JSON has it: its rows by number and by the first few keys."""
        keys = list(dict.fromkeys(row.key for row in self.rows))
        return {
            "name": self.name,
            "severity": self.severity,
            "text": self.text,
            "advice": self.advice,
            "attempts": len(self.rows),
            "requests": keys[:5],
        }


class Traffic:
    """The mock's rows, grouped.

    An answered attempt ends its request: an equal prompt that comes later is another request. One
    that comes while an earlier request failed passes for its retry, for nothing tells them apart.

    Args:
        rows: of the mock, under way or ended, in any order.
        succeeded: keys of the requests whose result the caller took for a good answer; None when
            nobody said.
        stuck: keys of the requests that waited when nothing could ever wake them (the virtual
            clock knows).
        open_connections: that the client still holds.
        over: the client has done its work, so that what is still open or waiting stays so.
        now: the mock's time, for what is under way.

    Attributes:
        rows: by time of arrival.
        requests: the attempts of each request that has a key.
        retries: two attempts of one request, the second sent after the first had ended.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        *,
        succeeded: Collection[str] | None = None,
        stuck: Collection[str] = (),
        open_connections: int = 0,
        over: bool = True,
        now: float | None = None,
    ) -> None:
        self.rows = sorted(rows, key=lambda row: row.arrived_s)
        self.succeeded, self.stuck = succeeded, stuck
        self.open_connections, self.over = open_connections, over
        self.now = max((end_s(row) for row in self.rows), default=0.0) if now is None else now
        self.requests = list(_requests(self.rows))
        self.retries = [
            (first, then)
            for rows in self.requests
            for first, then in itertools.pairwise(rows)
            if first.ended_s is not None and then.arrived_s >= first.ended_s and _same(first, then)
        ]

    def end_s(self, row: Row) -> float:
        """When an attempt was over; now, if it is not."""
        return self.now if row.ended_s is None else row.ended_s


def end_s(row: Row) -> float:
    """When an attempt was over, as far as its row knows."""
    return row.arrived_s if row.ended_s is None else row.ended_s


def _requests(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Group by key; an answer closes the group for all that comes after it."""
    groups: defaultdict[str, list[list[Row]]] = defaultdict(list)
    for row in rows:
        if not row.key:
            continue  # it could not be read: whose attempt it is, nobody knows
        mine = groups[row.key]
        if not mine or any(answered(one) and end_s(one) <= row.arrived_s for one in mine[-1]):
            mine.append([])
        mine[-1].append(row)
    for mine in groups.values():
        yield from mine


def answered(row: Row) -> bool:
    """Whether the client got a good answer."""
    return row.ended == "complete" and row.status == 200


def _same(first: Row, then: Row) -> bool:
    """Whether an attempt repeats another: with another model, account or prompt it does not."""
    return (first.model, first.account, first.prompt_tokens) == (
        then.model,
        then.account,
        then.prompt_tokens,
    )


def clock_s(seconds: float) -> str:
    """Seconds as a person says them: `0.05 s`, `1.2 s`, `600 s`."""
    if seconds >= 10:
        return f"{seconds:.0f} s"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"


def counted(count: int, one: str, many: str = "") -> str:
    """`1 request`, `2 requests`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
