"""Little things conserve: what must hold of every run, on every engine."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from harness.records import TIMES, Record, requests

# Two stamps of one instant may differ by rounding where clocks are summed differently.
_TOLERANCE_S = 1e-9


def violations(
    records: Sequence[Record],
    keys: Collection[str],
    *,
    complete: bool = True,
    one_success: bool = True,
) -> list[str]:
    """What is wrong with a run's rows, in words; empty when nothing is.

    Args:
        records: all rows of the run.
        keys: every request that was submitted.
        complete: the run came to its end, so every request must have ended too.
        one_success: a request's calls are attempts at one answer, so that the first is the last. A
            foreign client may make several calls for one review.
    """
    found = [*_lost(records, keys, complete=complete), *_attempts(records, one_success)]
    for row in records:
        found += _times(row)
        if row.cost_usd < 0:
            found.append(f"{row.key} attempt {row.attempt}: negative cost {row.cost_usd}")
    return found


def _lost(records: Sequence[Record], keys: Collection[str], *, complete: bool) -> Iterator[str]:
    seen = {row.key for row in records}
    if complete and (lost := set(keys) - seen):
        yield f"{len(lost)} requests lost, first {min(lost)}"
    if foreign := seen - set(keys):
        yield f"{len(foreign)} requests nobody submitted, first {min(foreign)}"


def _attempts(records: Sequence[Record], one_success: bool) -> Iterator[str]:
    counts = Counter((row.key, row.attempt) for row in records)
    for (key, attempt), count in counts.items():
        if count > 1:
            yield f"{key} attempt {attempt} counted {count} times"
    for rows in requests(records):
        if one_success and any(row.outcome == "ok" for row in rows[:-1]):
            yield f"{rows[0].key} went on after it had succeeded"


def _times(row: Record) -> Iterator[str]:
    stamps = [getattr(row, name) for name in TIMES if name != "t_intended"]
    known = [stamp for stamp in stamps if stamp is not None]
    if any(b < a - _TOLERANCE_S for a, b in pairwise(known)):
        yield f"{row.key} attempt {row.attempt}: times run backwards"
