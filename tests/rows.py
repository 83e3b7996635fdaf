"""Rows made by hand and rows of real runs: what the tests of the figures share."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from harness.attribution import Stage, verdict
from harness.engines import virtual
from harness.engines.base import EngineResult, prepare
from harness.records import Record, requests
from harness.scenario.load import load_file
from mock_llm.ledger import Row
from mock_llm.server import MockServer

STAMPS: dict[Stage, str] = {
    "queue": "t_admitted",
    "limiter": "t_limited",
    "slot": "t_slot",
    "connect": "t_connected",
    "first_token": "t_first_token",
    "body": "t_last_token",
}


def attempt(
    key: str = "r1",
    number: int = 1,
    *,
    since: float = 0.0,
    spent: Mapping[Stage, float] | None = None,
    ended_in: Stage | None = None,
    **changes: Any,
) -> Record:
    """An attempt by its seconds in each stage; `ended_in` is the stage that never came to its end.

    Without anything else it is answered after one second of waiting for the first token.
    """
    seconds = {"first_token": 1.0} if spent is None else spent
    now = since
    row: dict[str, Any] = {"key": key, "attempt": number, "t_queued": since}
    for stage, stamp in STAMPS.items():
        now += seconds.get(stage, 0.0)
        if stage == ended_in:
            break
        row[stamp] = now
    row["t_sent"] = row.get("t_connected")
    row["t_intended"] = row.get("t_admitted", since)
    row["t_end"] = now
    ended = {"outcome": "ok", "status": 200} if ended_in is None else {"outcome": "timed_out"}
    return Record(**{**row, **ended, **changes})


def served(
    times: Sequence[float], *, slots: int = 5, wave: int | None = None, **changes: Any
) -> list[Record]:
    """A run that answers requests of these lengths, so many at once, in waves behind a barrier."""
    rows: list[Record] = []
    began = 0.0
    for at in range(0, len(times), wave or len(times)):
        free = [(began, slot) for slot in range(slots)]
        for number in range(at, min(at + (wave or len(times)), len(times))):
            now, slot = heapq.heappop(free)
            row = attempt(
                f"r{number:04d}",
                since=began,
                spent={"queue": now - began, "first_token": times[number]},
                worker=slot,
                **changes,
            )
            heapq.heappush(free, (row.t_end, slot))
            rows.append(row)
        began = max(row.t_end for row in rows)
    return rows


def verdicts(records: Sequence[Record]) -> dict[str, str | None]:
    """Request key -> cause of its failure."""
    return {rows[0].key: verdict(rows) for rows in requests(records)}


@contextmanager
def ledgers() -> Iterator[list[MockServer]]:
    """The mocks that the virtual engine makes meanwhile: their ledgers are the answer sheets."""
    made: list[MockServer] = []

    def make(*args: Any, **options: Any) -> MockServer:
        made.append(MockServer(*args, **options))
        return made[-1]

    with mock.patch.object(virtual, "MockServer", make):
        yield made


def run_toml(
    folder: Path, text: str, *, seed: int = 1, reviews: int = 40
) -> tuple[EngineResult, list[Row]]:
    """Run a scenario on the virtual clock; its records, and what the mock knows of its attempts."""
    path = folder / "scenario.toml"
    path.write_text(f'[workload]\nreviews = {reviews}\ncorpus = "synthetic:electronics"\n{text}')
    with ledgers() as made:
        result = virtual.run_on_virtual_clock(prepare(load_file(path).resolve()), seed=seed)
    return result, list(made[0].ledger.rows)
