"""Two accounts of the same requests, row by row: where they begin to differ."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from harness.records import TIMES, Record, requests

EXACT_S = 1e-6
"""By which a time may differ where two engines share their weather: what records resolve."""

GIVEN_UP = "never_answered"
"""Of a request that nothing can ever wake; when an engine sees that is its own affair."""

EXACT_USD = 1e-9
"""Likewise dollars: sums of the same numbers in another order."""


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One field of an attempt, as two engines have it; times are seconds."""

    attempt: int
    field: str
    left: Any
    right: Any
    same: bool


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first request that differs.

    Attributes:
        key: of the request.
        at_s: when the two begin to differ.
        differing: how many requests do in all.
        timeline: what both have of it, attempt by attempt.
    """

    key: str
    at_s: float
    differing: int
    timeline: list[Moment]


def first_difference(left: Sequence[Record], right: Sequence[Record]) -> Difference | None:
    """The request in which two runs begin to differ, by time; None when all are equal."""
    ours, theirs = _by_key(left), _by_key(right)
    parted = {
        key: at_s
        for key in {**ours, **theirs}
        if (at_s := _parts_at(ours.get(key, ()), theirs.get(key, ()))) is not None
    }
    if not parted:
        return None
    key = min(parted, key=lambda one: (parted[one], one))
    return Difference(
        key=key,
        at_s=parted[key],
        differing=len(parted),
        timeline=list(_timeline(ours.get(key, ()), theirs.get(key, ()))),
    )


def _by_key(rows: Sequence[Record]) -> dict[str, Sequence[Record]]:
    return {group[0].key: group for group in requests(rows)}


def _parts_at(ours: Sequence[Record], theirs: Sequence[Record]) -> float | None:
    """When two accounts of a request part; None: they are the same."""
    moments: list[float] = []
    for one, other in _side_by_side(ours, theirs):
        if one is None or other is None:
            only = one or other
            moments.append(only.t_end if only.t_admitted is None else only.t_admitted)
            continue
        for name in Record.__struct_fields__:
            pair = getattr(one, name), getattr(other, name)
            if _same(name, *pair) or (name == "t_end" and one.error == GIVEN_UP == other.error):
                continue
            # What is no time came about by the attempt's end.
            moments += [t for t in pair if t is not None] if name in TIMES else [other.t_end]
    return min(moments, default=None)


def _side_by_side(ours: Sequence[Record], theirs: Sequence[Record]) -> Iterator[tuple[Any, Any]]:
    """Rows of the same attempt; None where one side has none."""
    mine, yours = ({row.attempt: row for row in rows} for rows in (ours, theirs))
    for attempt in sorted({**mine, **yours}):
        yield mine.get(attempt), yours.get(attempt)


def _same(name: str, left: Any, right: Any) -> bool:
    if left == right or left is None or right is None:
        return bool(left == right)
    within = EXACT_S if name in TIMES else EXACT_USD if name == "cost_usd" else None
    return within is not None and bool(abs(left - right) <= within)


def _timeline(ours: Sequence[Record], theirs: Sequence[Record]) -> Iterator[Moment]:
    """Both accounts, side by side; what neither has is left out."""
    for one, other in _side_by_side(ours, theirs):
        attempt = (one or other).attempt
        for name in Record.__struct_fields__:
            left, right = (row and getattr(row, name) for row in (one, other))
            if name not in {"key", "attempt"} and (_says(name, left) or _says(name, right)):
                same = _same(name, left, right)
                yield Moment(attempt=attempt, field=name, left=left, right=right, same=same)


def _says(name: str, value: Any) -> bool:
    return value is not None if name in TIMES else bool(value)
