"""Records: their digest, and their way to a file and back."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import attempt

from harness.corpus.review import Review
from harness.pipeline.reading import Stamps
from harness.pipeline.request import Item, Request
from harness.pipeline.routing import Route
from harness.records import (
    TIMES,
    Record,
    in_order,
    read_jsonl,
    records_sha256,
    requests,
    write_jsonl,
)

ROWS = [
    attempt("r2", 1, ended_in="first_token", error="attempt_timeout", user="ü"),
    attempt("r2", 2, since=3.25),
    attempt("r10", 1, retry_after_s=1.5, cost_usd=0.1, cache="miss", new_connection=True),
    attempt("r1", 0, ended_in="queue", error="job_deadline"),
]
OTHER = Record(
    **dict.fromkeys(TIMES, 77.0),
    key="r3",
    attempt=9,
    user="u",
    batch=3,
    worker=3,
    model="m",
    tier=2,
    new_connection=True,
    status=201,
    outcome="failed",
    error="x",
    retry_after_s=1.0,
    prompt_tokens=1,
    cached_tokens=1,
    completion_tokens=1,
    cost_usd=1e-9,
    cache="hit",
)


@given(st.permutations(ROWS))
def test_the_digest_does_not_depend_on_the_order_of_rows(rows: list[Record]) -> None:
    """Rows in any order have one digest."""
    assert records_sha256(rows) == records_sha256(ROWS)


@pytest.mark.parametrize("field", Record.__struct_fields__)
def test_the_digest_depends_on_every_field(field: str) -> None:
    """Another value in any one field of one row is another digest."""
    changed = msgspec.structs.replace(ROWS[1], **{field: getattr(OTHER, field)})
    assert records_sha256([ROWS[0], changed, *ROWS[2:]]) != records_sha256(ROWS)


@given(st.integers(1, 10**9), st.floats(-0.4e-6, 0.4e-6), st.sampled_from(TIMES))
def test_the_digest_sees_no_difference_below_a_microsecond(
    micros: int, off: float, field: str
) -> None:
    """A time moved by less than half a microsecond keeps the digest, by a whole one changes it."""
    row, moved, further = (
        msgspec.structs.replace(ROWS[1], **{field: micros / 1e6 + by}) for by in (0.0, off, 1e-6)
    )
    assert records_sha256([moved]) == records_sha256([row])
    assert records_sha256([further]) != records_sha256([row])


@pytest.mark.parametrize("field", ["key", "attempt", "t_intended", "t_queued", "t_end", "outcome"])
def test_a_row_without_what_every_row_has_is_none(field: str, tmp_path: Path) -> None:
    """A line of a file that lacks it is refused, though the other fields may be missing."""
    line = msgspec.to_builtins(ROWS[0])
    file = tmp_path / "rows.jsonl"
    file.write_bytes(msgspec.json.encode({**line, "user": ""}))
    assert len(read_jsonl(file)) == 1
    del line[field]
    file.write_bytes(msgspec.json.encode(line))
    with pytest.raises(msgspec.ValidationError):
        read_jsonl(file)


def test_a_request_writes_every_value_under_its_name() -> None:
    """A row is made by position, and each value is where its name is."""
    route = Route("router's", None, "")
    item = Item(0, "k", "u", 2, Review(id="i", content="c"), route, 3)
    request = Request(item, 4, 1.0, 2.0, 3.0, t_limited=4.0, t_slot=5.0, cache="miss")
    stamps = Stamps(
        new_connection=True, t_connected=6.0, t_sent=7.0, t_headers=8.0, t_first_token=9.0
    )
    stamps.t_last_token = 10.0
    told: dict[str, Any] = {"model": "m", "error": "x", "outcome": "failed", "status": 503}
    told |= {"prompt_tokens": 13, "cached_tokens": 14, "completion_tokens": 15, "cost_usd": 16.0}
    row = request.row(5, stamps, 11.0, retry_after_s=12.0, **told)
    assert row == Record(
        key="k",
        attempt=5,
        user="u",
        batch=2,
        worker=4,
        tier=3,
        new_connection=True,
        t_intended=2.0,
        t_queued=1.0,
        t_admitted=3.0,
        t_limited=4.0,
        t_slot=5.0,
        t_connected=6.0,
        t_sent=7.0,
        t_headers=8.0,
        t_first_token=9.0,
        t_last_token=10.0,
        t_end=11.0,
        retry_after_s=12.0,
        cache="miss",
        **told,
    )


def test_a_lost_row_changes_the_digest() -> None:
    """A run with a row fewer is another run, and no rows at all have a digest too."""
    assert len({records_sha256(ROWS[:n]) for n in range(len(ROWS) + 1)}) == len(ROWS) + 1


def test_attempts_are_put_in_order_by_number_not_by_time_of_arrival() -> None:
    """Requests come one by one with their attempts in order."""
    rows = [attempt("b", 10), attempt("a", 2), attempt("b", 9), attempt("a", 1)]
    found = [[(row.key, row.attempt) for row in group] for group in requests(rows)]
    assert found == [[("a", 1), ("a", 2)], [("b", 9), ("b", 10)]]


def test_rows_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    """What is read has the values and the types of what was written, and the same digest."""
    path = tmp_path / "records.jsonl"
    write_jsonl(random.Random(1).sample(ROWS, len(ROWS)), path)
    found = read_jsonl(path)
    assert found == in_order(ROWS)
    assert [type(value) for value in msgspec.structs.astuple(found[1])] == [
        type(value) for value in msgspec.structs.astuple(in_order(ROWS)[1])
    ]
    assert records_sha256(found) == records_sha256(ROWS)
    assert len(path.read_bytes().splitlines()) == len(ROWS)


def test_no_rows_make_an_empty_file(tmp_path: Path) -> None:
    """A run of nothing is written and read as nothing."""
    write_jsonl([], tmp_path / "records.jsonl")
    assert read_jsonl(tmp_path / "records.jsonl") == []


def test_a_reader_of_the_old_file_reads_it_to_its_end(tmp_path: Path) -> None:
    """The new file takes the old one's place at once; nothing is written into the old one."""
    path = tmp_path / "records.jsonl"
    write_jsonl(ROWS[:1], path)
    with path.open("rb") as reader:
        write_jsonl(ROWS, path)
        assert len(reader.read().splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["records.jsonl"]


def test_a_writer_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    """A reader sees the old file or the new one, and never the beginning of a new one."""
    path = tmp_path / "records.jsonl"
    write_jsonl(ROWS[:1], path)

    def breaks_off() -> Iterator[Record]:
        yield from ROWS
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_jsonl(breaks_off(), path)
    assert read_jsonl(path) == ROWS[:1]


@pytest.mark.parametrize(
    "line",
    [b'{"key": "r1"', b'{"key": "r1"}', b"[]", b'{"key": 1}', b"\xff", b'{"outcome": "fine"}'],
)
def test_a_line_that_is_no_record_is_refused(tmp_path: Path, line: bytes) -> None:
    """Half a line, a missing field or a value of the wrong type is an error, never a guess."""
    path = tmp_path / "records.jsonl"
    write_jsonl(ROWS, path)
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(msgspec.DecodeError):
        read_jsonl(path)
