"""The journal: whatever moment it was cut off at, what had ended is kept, and counted once."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError
from harness.pipeline.answer import Answer
from harness.pipeline.journal import Begun, Done, Header, Journal, Line, Replayed, Settled, replay
from harness.records import Outcome, Record

HEADER = Header(version="1", engine="live", variant="a", seed=1, scenario="s", corpus="c")


def row(key: str, attempt: int, outcome: Outcome = "failed", usd: float = 0.5) -> Record:
    """A row of an attempt that cost something."""
    return Record(
        key=key, attempt=attempt, t_intended=0, t_queued=0, t_end=1, outcome=outcome, cost_usd=usd
    )


def written(lines: Sequence[Line], header: Header = HEADER) -> bytes:
    """A journal's bytes."""
    return b"".join(msgspec.json.encode(line) + b"\n" for line in (header, *lines))


def read(data: bytes) -> Replayed:
    """What a journal says to the run that it is of."""
    return replay(data, HEADER, "journal.jsonl")


@st.composite
def histories(draw: st.DrawFn) -> list[Line]:
    """Lines of a run: requests that fail some times, and then are answered, given up or open."""
    lines: list[list[Line]] = []
    for number in range(draw(st.integers(0, 4))):
        key, mine = f"r{number} \n é", list[Line]()
        for attempt in range(1, draw(st.integers(1, 3)) + 1):
            mine.append(Begun(row=row(key, attempt), worst_usd=1.0))
            mine.append(Settled(row=row(key, attempt), booked_usd=1.0, kind="failed"))
        end = draw(st.sampled_from(["ok", "done", "open"]))
        if end == "ok":
            answer = Answer(text='{"label": "positive"}\n', label="positive")
            mine[-1] = Settled(row=row(key, attempt, "ok"), answer=answer)
        lines.append([*mine, Done(key=key)] if end == "done" else mine)
    merged: list[Line] = []
    while any(lines):
        merged.append(draw(st.sampled_from([one for one in lines if one])).pop(0))
    return merged


@given(lines=histories(), data=st.data())
def test_a_cut_anywhere_loses_nothing_that_had_ended(
    lines: list[Line], data: st.DataObject
) -> None:
    """Cut at any byte, every line before it counts once, and what had begun is in doubt."""
    whole = written(lines)
    at = data.draw(st.integers(0, len(whole)))
    found = read(whole[:at])
    sizes = [len(written(lines[:count])) for count in range(len(lines) + 1)]
    kept = lines[: max((n for n, size in enumerate(sizes) if size - 1 <= at), default=0)]
    ended = [line for line in kept if isinstance(line, Settled)]
    begun = [line for line in kept if isinstance(line, Begun)]
    marks = {(line.row.key, line.row.attempt) for line in ended}
    assert found.settled == ended
    assert found.lost == [one for one in begun if (one.row.key, one.row.attempt) not in marks]
    assert found.done == {line.row.key for line in ended if line.row.outcome == "ok"} | {
        line.key for line in kept if isinstance(line, Done)
    }
    assert found.answers == {line.row.key: line.answer for line in ended if line.answer}
    assert found.whole_bytes - 1 <= at


@given(lines=histories(), data=st.data())
def test_it_goes_on_after_any_cut(
    tmp_path_factory: pytest.TempPathFactory, lines: list[Line], data: st.DataObject
) -> None:
    """What is appended to a journal that was cut anywhere is read after what was left of it."""
    whole = written(lines)
    at = data.draw(st.integers(0, len(whole)))
    path = tmp_path_factory.getbasetemp() / "cut.jsonl"
    path.write_bytes(whole[:at])
    before = Journal.resume(path, HEADER)
    assert before.journal is not None
    more = Settled(row=row("more", 1, "ok"))
    before.journal.settled(more)
    before.journal.close()
    after = read(path.read_bytes())
    assert after.settled == [*before.settled, more]
    assert after.lost == before.lost


def test_a_doubled_line_counts_once() -> None:
    """An attempt that is settled twice is one attempt."""
    line = Settled(row=row("r1", 1))
    assert read(written([line, line])).settled == [line]


def test_what_was_lost_has_a_price() -> None:
    """Attempts that were begun and never ended are rows, with what they may have cost."""
    lines: list[Line] = [Begun(row=row("r1", 1, usd=0.25), worst_usd=1), Settled(row=row("r2", 1))]
    found = read(written(lines))
    assert [one.cost_usd for one in found.in_doubt] == [0.25]
    assert [one.key for one in found.rows] == ["r2", "r1"]


def test_a_journal_of_another_run_is_refused() -> None:
    """One line says what differs, and what to do."""
    other = msgspec.structs.replace(HEADER, seed=2)
    with pytest.raises(InputError, match=r"j: is of another run \(seed 2 there, 1 here\)"):
        replay(written([], other), HEADER, "j")


def test_a_damaged_line_is_refused() -> None:
    """What is broken before the last line was not torn off: it is told, with its number."""
    data = written([Done(key="r1"), Done(key="r2")]).replace(b"r1", b'r"')
    with pytest.raises(InputError, match=r"journal.jsonl: line 2 is damaged"):
        read(data)


def test_two_processes_do_not_write_one_journal(tmp_path: Path) -> None:
    """Whoever comes second is told, until the first has closed it."""
    path = tmp_path / "run" / "journal.jsonl"
    first = Journal.open(path, HEADER)
    with pytest.raises(InputError, match="another process is writing it"):
        Journal.resume(path, HEADER)
    first.close()
    found = Journal.resume(path, HEADER, fsync=True)
    assert found.journal is not None
    found.journal.begun(row("r1", 1), 1.0)
    found.journal.done("r1")
    found.journal.close()
    again = read(path.read_bytes())
    assert (len(again.lost), again.done) == (1, {"r1"})


def test_a_new_journal_replaces_the_old(tmp_path: Path) -> None:
    """Beginning anew leaves nothing of an earlier run."""
    path = tmp_path / "journal.jsonl"
    for _ in range(2):
        journal = Journal.open(path, HEADER)
        journal.done("r1")
        journal.close()
    assert len(path.read_bytes().splitlines()) == 2


def test_there_must_be_a_journal_to_resume(tmp_path: Path) -> None:
    """A missing journal, and one in a place that is no folder, are each told in one line."""
    with pytest.raises(InputError, match="no journal to resume"):
        Journal.resume(tmp_path / "journal.jsonl", HEADER)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        Journal.open(tmp_path / "file" / "journal.jsonl", HEADER)


def test_a_refused_journal_is_left_as_it_was(tmp_path: Path) -> None:
    """What cannot be resumed is neither cut nor locked."""
    path = tmp_path / "journal.jsonl"
    data = written([Done(key="r1")], msgspec.structs.replace(HEADER, corpus="other"))
    path.write_bytes(data + b'{"line":')
    for _ in range(2):
        with pytest.raises(InputError, match="corpus"):
            Journal.resume(path, HEADER)
    assert path.read_bytes() == data + b'{"line":'
