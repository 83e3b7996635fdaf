"""The journal of a batch: what a run that was killed has paid for, and where the next one goes on.

Theory of operation. One JSON object a line, appended and never changed. The first says which run
it is. A line is written before each attempt is sent, one after it has ended, and one when a request
has come to nothing for good (that it was answered follows from its attempt's line). So of a process
that is killed at any moment at most the last line is torn, and those attempts are in doubt that
have a line for their beginning and none for their end: no more than were in flight. They are sent
again, and may have been paid twice. An attempt that has ended is never repeated.

What `write` took survives the death of the process (kill -9), not that of the machine. Against that
`fsync` makes each line of a beginning wait for the disk, some milliseconds, with which the loop
stands still: worth it where attempts cost money, and off elsewhere.
"""

import os
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

import msgspec

from harness.errors import InputError
from harness.pipeline.answer import Answer
from harness.pipeline.money import Kind
from harness.records import Record

FORMAT = 1
CUT = frozenset({"interrupted", "never_answered"})
"""Error words of attempts that were under way when their run was stopped."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Which run a journal is of; one that differs in anything cannot go on with it.

    Attributes:
        journal: version of this format.
        version: of the product.
        engine: which of them.
        variant: of the scenario.
        seed: of the weather and of the client's jitter.
        scenario: digest of the variant as it is run, without its budget.
        corpus: digest of its reviews.
        endpoint: where it is sent, if that is not up to the engine.
    """

    journal: int = FORMAT
    version: str
    engine: str
    variant: str
    seed: int
    scenario: str
    corpus: str
    endpoint: str = ""


class Begun(msgspec.Struct, frozen=True, kw_only=True, tag="attempt", tag_field="line"):
    """An attempt is about to be sent.

    Attributes:
        row: what its row will be if nothing more is heard of it, its cost an estimate.
        worst_usd: what it can cost.
    """

    row: Record
    worst_usd: float


class Settled(msgspec.Struct, frozen=True, kw_only=True, tag="settled", tag_field="line"):
    """An attempt has ended, or a request that made none.

    Attributes:
        row: as in the run's records.
        booked_usd: see `money.Purse.settle`.
        kind: what it was good for.
        estimated: nobody told what it cost.
        generation: the provider's id of it, "" where none came.
        answer: None if there was none.
    """

    row: Record
    booked_usd: float = 0.0
    kind: Kind = "useful"
    estimated: bool = False
    generation: str = ""
    answer: Answer | None = None


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done", tag_field="line"):
    """A request has come to nothing: there will be no further attempt."""

    key: str


Line = Begun | Settled | Done


class Replayed(msgspec.Struct, kw_only=True):
    """What a journal says.

    Attributes:
        settled: ended attempts, in the order in which they ended.
        lost: attempts that were begun and perhaps sent, and never ended: they may be paid twice.
        answers: request key -> its answer.
        done: keys of the requests that need nothing more.
        made: request key -> number of its last attempt.
        failures: request key -> attempts that failed by themselves, and count against its retries.
        whole_bytes: so much of the file is whole.
        journal: open for more; None of one that was only read.
    """

    settled: list[Settled] = []
    lost: list[Begun] = []
    answers: dict[str, Answer] = {}
    done: set[str] = set()
    made: dict[str, int] = {}
    failures: Counter[str] = msgspec.field(default_factory=Counter)
    whole_bytes: int = 0
    journal: "Journal | None" = None

    @property
    def rows(self) -> list[Record]:
        """The records so far, one of each lost attempt included."""
        return [*(one.row for one in self.settled), *(one.row for one in self.lost)]

    @property
    def end_s(self) -> float:
        """The last moment that it tells of, seconds from the start of the run."""
        return max((row.t_end for row in self.rows), default=0.0)

    @property
    def in_doubt(self) -> list[Record]:
        """Attempts that are sent again though they may have been paid: lost, or cut short."""
        cut = [one.row for one in self.settled if one.row.error in CUT]
        return [*cut, *(one.row for one in self.lost)]


_ENCODE = msgspec.json.Encoder().encode
_HEADER = msgspec.json.Decoder(Header)
_LINE = msgspec.json.Decoder(Line)


def replay(data: bytes, header: Header, where: str) -> Replayed:
    """Read a journal; what is torn at its end counts as not written.

    Args:
        data: the file.
        header: of the run that is to go on with it.
        where: the file's name, for errors.

    Raises:
        InputError: it is of another run, or a line before the last is damaged.
    """
    lines = data.split(b"\n")
    whole: list[Line] = []
    size = 0
    for number, line in enumerate(lines, start=1):
        try:
            read = _HEADER.decode(line) if number == 1 else _LINE.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            if number < len(lines):
                raise InputError(
                    f"{where}: line {number} is damaged ({error}): it cannot be resumed"
                ) from error
            break
        size += len(line) + 1
        if isinstance(read, Header):
            _check(read, header, where)
        else:
            whole.append(read)
    found = _sum(whole)
    found.whole_bytes = size
    return found


def _check(written: Header, wanted: Header, where: str) -> None:
    for name in Header.__struct_fields__:
        then, now = getattr(written, name), getattr(wanted, name)
        if then != now:
            raise InputError(
                f"{where}: is of another run ({name} {then} there, {now} here): "
                "resume with what it was begun with, or begin anew with another --out"
            )


def _sum(lines: list[Line]) -> Replayed:
    begun: dict[tuple[str, int], Begun] = {}
    settled: dict[tuple[str, int], Settled] = {}
    found = Replayed()
    for line in lines:
        if isinstance(line, Done):
            found.done.add(line.key)
            continue
        mark = line.row.key, line.row.attempt
        if isinstance(line, Begun):
            begun[mark] = line
            continue
        settled.setdefault(mark, line)
        if line.row.outcome == "ok":
            found.done.add(line.row.key)
        if line.answer is not None:
            found.answers[line.row.key] = line.answer
    found.settled = list(settled.values())
    found.done &= {key for key, _ in (*begun, *settled)}
    for key, attempt in (*begun, *settled):
        found.made[key] = max(attempt, found.made.get(key, 0))
    for (key, attempt), line in settled.items():
        found.failures[key] += attempt > 0 and line.row.error not in CUT
    found.lost = [one for mark, one in begun.items() if mark not in settled]
    return found


class Journal:
    """A journal that is being written, by this process alone."""

    def __init__(self, file: BinaryIO, where: str, *, fsync: bool = False) -> None:
        self._file = file
        self._where = where
        self._fsync = fsync

    @classmethod
    def open(cls, path: Path, header: Header, *, fsync: bool = False) -> Self:
        """Begin anew; what was there is gone.

        Raises:
            InputError: it cannot be written, or another process is writing it.
        """
        journal = cls(locked(path), str(path), fsync=fsync)
        journal._cut(0)
        journal._write(header)
        return journal

    @classmethod
    def resume(cls, path: Path, header: Header, *, fsync: bool = False) -> Replayed:
        """Read what there is and go on with it, as `Replayed.journal`.

        Raises:
            InputError: there is none, it is of another run, or damaged before its last line, or
                another process is writing it.
        """
        if not path.is_file():
            raise InputError(f"{path}: there is no journal to resume: run it without --resume")
        journal = cls(locked(path), str(path), fsync=fsync)
        try:
            data = path.read_bytes()
            found = replay(data, header, str(path))
        except BaseException:
            journal.close()
            raise
        journal._cut(min(found.whole_bytes, len(data)))
        if not found.whole_bytes:
            journal._write(header)
        elif found.whole_bytes > len(data):
            journal._all(b"\n")  # the last line wanted nothing but its end
        found.journal = journal
        return found

    def begun(self, row: Record, worst_usd: float) -> None:
        """An attempt is about to be sent; see `Begun`.

        Raises:
            InputError: it cannot be written: the attempt must not be sent.
        """
        self._write(Begun(row=row, worst_usd=worst_usd))
        if self._fsync:
            os.fsync(self._file.fileno())

    def settled(self, line: Settled) -> None:
        """An attempt has ended, or a request without one.

        Raises:
            InputError: it cannot be written.
        """
        self._write(line)

    def done(self, key: str) -> None:
        """A request has come to nothing.

        Raises:
            InputError: it cannot be written.
        """
        self._write(Done(key=key))

    def close(self) -> None:
        """Write nothing more; others may."""
        self._file.close()

    def _cut(self, size: int) -> None:
        self._file.truncate(size)
        self._file.seek(size)

    def _write(self, line: msgspec.Struct) -> None:
        self._all(_ENCODE(line) + b"\n")

    def _all(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:  # a disk that is nearly full takes a part
                left = left[self._file.write(left) :]
        except OSError as error:
            self._take_back(len(data) - len(left))
            raise InputError(
                f"{self._where}: cannot be written: {error.strerror}: make room, then --resume"
            ) from error

    def _take_back(self, count: int) -> None:
        """Of a line that has no room take its beginning back: another may follow."""
        if count:
            with suppress(OSError):
                self._file.truncate(os.fstat(self._file.fileno()).st_size - count)


def locked(path: Path) -> BinaryIO:
    """Open a file to be appended to by this process alone; it is made if it is not there.

    Raises:
        InputError: it cannot be written, or another process is writing it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not buffered: a line must be out of the process before its attempt is.
        file: BinaryIO = path.open("ab", buffering=0)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise InputError(f"{path}: another process is writing it: let it end first") from None
    return file
