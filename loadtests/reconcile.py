"""Three counts of one load test: the users', the service's and the mock's must be the same.

Theory of operation. A user's row tells how many calls the service says that it made, and what they
cost; the service's records have a row for each call; the mock's ledger has a row for each call that
reached it. They are held against each other request by request, so that what differs has a name.
What differs only because somebody cannot know is told as such, and is no difference: what an answer
would have cost that nobody waited for (an estimate), and requests of a process with users in it
that died (nobody is left who saw them).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from harness.pipeline.service.lines import batch_of
from harness.pipeline.writing import HEDGE
from harness.records import Record
from loadtests.sight import Asked
from mock_llm.ledger import Row

ROUNDING_USD = 1e-9
"""The service tells costs to nine digits."""
FIRST = 5
"""Differences that are told by name, of each kind."""


_Keyed = TypeVar("_Keyed", Record, Row)


class Count(msgspec.Struct):
    """What one side counted.

    Attributes:
        requests: that users made; None: the mock knows calls only.
        attempts: calls of the provider.
        cost_usd: of these.
    """

    requests: int | None = 0
    attempts: int = 0
    cost_usd: float = 0.0


class Sides(msgspec.Struct):
    """All counts of one kind of user; None: that side had nothing to do with it, or is unknown.

    Attributes:
        locust: requests in Locust's own table.
        users: as they saw it.
        service: as its records have it.
        mock: as its ledger has it.
    """

    users: Count
    locust: int | None = None
    service: Count | None = None
    mock: Count | None = None


class Reconciled(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        kinds: counts by kind of user.
        differences: what does not agree, each with the first request by name; empty when all does.
        lost: requests that never reached the service.
        unanswered: that the service knows, and whose users had no answer from it.
        unseen: that the service knows, and of whose users nobody is left.
        orphans: counts of these; None: there are none.
        estimated_usd: booked by the service for calls whose end it did not wait for.
        billed_usd: for the same calls, by the mock.
    """

    kinds: dict[str, Sides]
    differences: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    orphans: Sides | None = None
    estimated_usd: float = 0.0
    billed_usd: float = 0.0


class _Case(NamedTuple):
    """One request with all that is known of it."""

    asked: Asked
    records: Sequence[Record]
    rows: Sequence[Row]


def reconcile(
    asked: Sequence[Asked],
    records: Sequence[Record] | None,
    rows: Sequence[Row] | None,
    *,
    locust: Mapping[str, int] | None = None,
    orphaned: Callable[[str], bool] = lambda _: False,
) -> Reconciled:
    """Hold the counts against each other.

    Args:
        asked: what users saw.
        records: the service's; None: unknown.
        rows: the mock's; None: unknown.
        locust: kind -> requests in Locust's table; None: unknown.
        orphaned: whether a request's user was in a process that died.
    """
    of_service = _by_request(records or ())
    of_mock = _by_request(rows or ())
    cases = [_Case(one, of_service.pop(one.key, []), of_mock.pop(one.key, [])) for one in asked]
    served = [one for one in cases if one.asked.kind != "stream"]
    kinds = {
        kind: _sides([one for one in cases if one.asked.kind == kind], records, rows)
        for kind in dict.fromkeys(one.kind for one in asked)
    }
    for kind, sides in kinds.items():
        sides.locust = (locust or {}).get(kind)
    found = list(_against_locust(kinds))
    if records is not None:
        found += _first(_against_service(one) for one in served)
    if rows is not None:
        found += _first(_against_mock(one, known=records is not None) for one in cases)
    unseen = [key for key in of_service if orphaned(key)]
    strangers = [key for key in {**of_service, **of_mock} if key and not orphaned(key)]
    found += _first(f"{key}: it was served, and no user asked" for key in strangers)
    if rows is not None:
        found += _first(_calls_differ(key, of_service[key], of_mock[key]) for key in unseen)
    guesses = [one for one in records or () if _is_guess(one)]
    return Reconciled(
        kinds=kinds,
        differences=tuple(found),
        lost=tuple(one.asked.key for one in served if records is not None and _is_lost(one)),
        unanswered=tuple(one.asked.key for one in served if one.records and not one.asked.status),
        unseen=tuple(unseen),
        orphans=_orphans(unseen, of_service, None if rows is None else of_mock),
        estimated_usd=_spent(guesses),
        billed_usd=_billed(guesses, rows or ()),
    )


def request_of(key: str) -> str:
    """The request that a call belongs to: an item's is its batch, a hedge's the hedged one."""
    key = key.removesuffix(HEDGE)
    return batch_of(key) or key


def _by_request(rows: Iterable[_Keyed]) -> dict[str, list[_Keyed]]:
    found: dict[str, list[_Keyed]] = defaultdict(list)
    for row in rows:
        found[request_of(row.key)].append(row)
    return found


def _first(differences: Iterable[str | None]) -> list[str]:
    """The first ones, and how many more there are."""
    known = [one for one in differences if one is not None]
    more = len(known) - FIRST
    return known[:FIRST] + ([f"... and {more:,} more like these"] if more > 0 else [])


def _sent(records: Iterable[Record]) -> int:
    return sum(record.t_sent is not None for record in records)


def _spent(records: Iterable[Record]) -> float:
    return math.fsum(record.cost_usd for record in records)


def _is_lost(case: _Case) -> bool:
    return not case.records and not case.asked.status


def _against_locust(kinds: Mapping[str, Sides]) -> Iterator[str]:
    for kind, sides in kinds.items():
        if sides.locust is not None and sides.locust != sides.users.requests:
            yield f"{kind}: Locust counts {sides.locust} requests, users {sides.users.requests}"


def _against_service(case: _Case) -> str | None:
    """What a user was told against what the service has written down."""
    asked, records = case.asked, case.records
    if not asked.status or (asked.kind == "batch" and asked.status >= 400):
        return None  # it was told nothing that could differ; a batch not let in has no items
    if not records:
        return f"{asked.key}: answered with {asked.status}, and not in the records"
    if asked.attempts != _sent(records):
        return f"{asked.key}: {asked.attempts} calls told, {_sent(records)} in the records"
    if abs(asked.cost_usd - _spent(records)) > ROUNDING_USD * len(records):
        return f"{asked.key}: ${asked.cost_usd:.9f} told, ${_spent(records):.9f} in the records"
    return None


def _against_mock(case: _Case, *, known: bool) -> str | None:
    """What was called against what the mock has; `known`: there are records of it."""
    asked, rows = case.asked, case.rows
    if known and asked.kind != "stream":
        return _calls_differ(asked.key, case.records, rows)
    if asked.status and asked.attempts != len(rows):
        return f"{asked.key}: {asked.attempts} calls told, the mock has {len(rows)}"
    return None


def _calls_differ(key: str, records: Sequence[Record], rows: Sequence[Row]) -> str | None:
    if _sent(records) != len(rows):
        return f"{key}: the service sent {_sent(records)} calls, the mock has {len(rows)}"
    spent, billed = _spent(records), math.fsum(row.billed_usd for row in rows)
    if abs(spent - billed) > ROUNDING_USD and not any(map(_is_guess, records)):
        return f"{key}: the service booked ${spent:.9f}, the mock billed ${billed:.9f}"
    return None


def _is_guess(record: Record) -> bool:
    """Whether the service has not read the end of an answer, and can only guess what it cost."""
    ended = record.outcome == "ok" or record.status not in {None, 200}
    return record.t_sent is not None and not ended


def _billed(guesses: Sequence[Record], rows: Iterable[Row]) -> float:
    """What the mock billed for the calls of these records."""
    wanted = {(record.key, str(record.attempt)) for record in guesses}
    return math.fsum(
        row.billed_usd for row in rows if (row.key.removesuffix(HEDGE), row.attempt) in wanted
    )


def _sides(
    cases: Sequence[_Case], records: Sequence[Record] | None, rows: Sequence[Row] | None
) -> Sides:
    """All counts of one kind."""
    calls = sum(one.asked.attempts for one in cases)
    sides = Sides(Count(len(cases), calls, math.fsum(one.asked.cost_usd for one in cases)))
    if records is not None and cases[0].asked.kind != "stream":
        kept = [record for one in cases for record in one.records]
        sides.service = Count(sum(bool(one.records) for one in cases), _sent(kept), _spent(kept))
    if rows is not None:
        seen = [row for one in cases for row in one.rows]
        sides.mock = Count(None, len(seen), math.fsum(row.billed_usd for row in seen))
    return sides


def _orphans(
    keys: Sequence[str],
    of_service: Mapping[str, Sequence[Record]],
    of_mock: Mapping[str, Sequence[Row]] | None,
) -> Sides | None:
    """All counts of requests whose users nobody can ask."""
    if not keys:
        return None
    kept = [record for key in keys for record in of_service[key]]
    sides = Sides(Count(), service=Count(len(keys), _sent(kept), _spent(kept)))
    if of_mock is not None:
        seen = [row for key in keys for row in of_mock.get(key, ())]
        sides.mock = Count(None, len(seen), math.fsum(row.billed_usd for row in seen))
    return sides
