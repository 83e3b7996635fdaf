"""The file of a service's journal: opened, read, shortened, and written on.

What is there is read and written again without what nobody can ask for any more, beside its place,
and moved there: whoever is killed in between has either the old file or the new one. Only one
process may do so. A lock is on a file and not on its name, so whoever has locked a file looks
whether it still has that name.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

import msgspec

from harness.errors import InputError
from harness.pipeline.costs import Price
from harness.pipeline.journal import Journal, Replayed, locked
from harness.pipeline.service.lines import (
    Asked,
    Doubt,
    Ended,
    Header,
    Line,
    Result,
    Story,
    Taken,
    Withdrawn,
)

_ENCODE = msgspec.json.Encoder().encode
_HEADER = msgspec.json.Decoder(Header)
_LINE = msgspec.json.Decoder(Line)


class Resumed(Replayed, kw_only=True):
    """What the books need to know of earlier processes; `until_s` is the last moment of theirs."""

    until_s: float = 0.0

    @property
    def end_s(self) -> float:
        """See `Replayed`."""
        return self.until_s


class Keeper(Journal):
    """A service's journal that is being written.

    Attributes:
        story: what was in it when it was opened.
        in_doubt: attempts that were in flight when it was left.
    """

    story: Story
    in_doubt: list[Doubt]

    @classmethod
    def take_up(cls, path: Path, header: Header) -> Self:
        """Go on with a journal, or begin one where there is none.

        Raises:
            InputError: it is no journal of such a service, is damaged before its last line, cannot
                be written, or another process is writing it.
        """
        place = path.resolve()
        old = locked(place)
        try:
            if not place.is_file():
                raise InputError(f"{path}: is no file: a journal must be one")
            if not os.path.samestat(os.fstat(old.fileno()), place.stat()):
                raise InputError(f"{path}: another process is writing it: let it end first")
            story = _read(place, header, str(path))
            in_doubt = story.close()
            keeper = cls(_rewritten(place, header, story, str(path)), str(path))
        finally:
            old.close()
        keeper.story, keeper.in_doubt = story, in_doubt
        return keeper

    def taken(self, batch: Taken) -> None:
        """A batch is taken in; see `Journal.settled` for errors."""
        self._write(batch)

    def ended(self, result: Result) -> None:
        """An item needs nothing more."""
        self._write(Ended(result))

    def withdrawn(self, batch: str) -> None:
        """A batch is served no more."""
        self._write(Withdrawn(batch))

    def asked(self, key: str, user: str, digest: str) -> None:
        """A request is let in that may come again."""
        self._write(Asked(key, user, digest))


def header_of(router: str, prices: dict[str, Price], instructions: str | None) -> Header:
    """Of a service that decides so, pays so and asks so."""
    return Header(
        router=router, prices=digest(sorted(prices.items())), instructions=digest(instructions)
    )


def digest(value: object) -> str:
    """By which two values are told apart."""
    return hashlib.blake2b(_ENCODE(value), digest_size=16).hexdigest()


def _read(path: Path, header: Header, where: str) -> Story:
    """All that is whole; what is torn at the end counts as not written."""
    story = Story()
    with path.open("rb") as file:
        first = file.readline()
        if first:
            _check(first, header, where)
        for line in _lines(file, where):
            story.add(line)
    return story


def _lines(file: BinaryIO, where: str) -> Iterator[Line]:
    for number, data in enumerate(file, start=2):
        try:
            yield _LINE.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            if not data.endswith(b"\n"):
                return
            raise InputError(
                f"{where}: line {number} is damaged ({error}): it cannot be gone on with"
            ) from error


def _check(first: bytes, wanted: Header, where: str) -> None:
    try:
        written = _HEADER.decode(first)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise InputError(f"{where}: is no journal of a service: name another file") from None
    for name in Header.__struct_fields__:
        then, now = getattr(written, name), getattr(wanted, name)
        if then != now:
            raise InputError(
                f"{where}: is of another service ({name} {then} there, {now} here): "
                "go on with what it was begun with, or name another file"
            )


def _rewritten(place: Path, header: Header, story: Story, where: str) -> BinaryIO:
    """The story in few lines, in the old file's place, locked."""
    partial = place.with_name(place.name + ".part")
    try:
        with partial.open("wb") as file:
            file.writelines(_ENCODE(one) + b"\n" for one in (header, *story.lines()))
            file.flush()
            os.fsync(file.fileno())
        new = locked(partial)
        partial.replace(place)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{where}: cannot be written: {error.strerror}") from error
    return new
