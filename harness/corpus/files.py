"""Reviews out of CSV and JSONL files, plain or gzipped, read no further than wanted."""

import gzip
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

import msgspec

from harness.corpus.columns import pick_columns
from harness.corpus.formats import Table, parser_of
from harness.corpus.review import Review
from harness.corpus.rows import review_of
from harness.errors import InputError


class FileReviews(msgspec.Struct, frozen=True, kw_only=True):
    """What was read, at least one review, and what the user should know about it."""

    reviews: tuple[Review, ...]
    notes: tuple[str, ...] = ()


def read_reviews(
    path: Path, *, count: int | None = None, columns: Mapping[str, str] | None = None
) -> FileReviews:
    """The first ``count`` reviews of a file, or all of them.

    A row without an id is called by its number, an id that came before gets the number appended;
    rows without text are skipped and counted.

    Args:
        path: ``.csv`` or ``.jsonl``, with or without ``.gz``; UTF-8.
        count: at least 1, or None for the whole file.
        columns: field to column, where the file does not use our names.

    Raises:
        InputError: the file cannot be read as reviews; says the line and what to do.
    """
    with opened(path) as stream:
        table = parser_of(str(path))(decoded(stream, path), str(path))
        return _collect(table, str(path), count, columns or {})


@contextmanager
def opened(path: Path) -> Iterator[BufferedIOBase]:
    """The bytes of a file; whatever goes wrong while they are read becomes one line."""
    try:
        with _open(path) as stream:
            yield stream
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: correct the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory: name a file in it") from None
    except gzip.BadGzipFile:
        raise InputError(f"{path}: is not gzip: take .gz off its name, or compress it") from None
    except (EOFError, zlib.error):
        raise InputError(f"{path}: broken gzip: copy or download it again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def found_beside(what: str, name: str, base: Path | None, hint: str = "") -> Path:
    """A file that is named from the working directory, or from `base`.

    Raises:
        InputError: it is in neither; begins with `what` it was to be, and ends with the hint.
    """
    path = Path(name).expanduser()
    places = [path] if base is None or path.is_absolute() else [path, base / path]
    for place in places:
        if place.exists():
            return place
    looked = "" if len(set(places)) == 1 else f", nor is there {places[-1]}"
    raise InputError(f"{what} {name}: no such file{looked}: correct the path{hint}")


def _open(path: Path) -> BufferedIOBase:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def decoded(stream: BufferedIOBase, path: Path) -> Iterator[str]:
    """The lines of a file as text.

    Raises:
        InputError: one is not UTF-8.
    """
    for number, line in enumerate(stream, 1):
        try:
            # A spreadsheet's byte-order mark would become part of the first column's name.
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise InputError(
                f"{path}, line {number}: not UTF-8: convert the file, for example with "
                "iconv -f latin1 -t utf-8"
            ) from None
        yield text


def _collect(
    table: Table, where: str, count: int | None, columns: Mapping[str, str]
) -> FileReviews:
    picked = pick_columns(table.columns, columns, where)
    reviews: dict[str, Review] = {}
    empty = renamed = 0
    for number, row in enumerate(table.rows, 1):
        review = review_of(row.values, picked, f"{where}, line {row.line}")
        if review is None:
            empty += 1
            continue
        name = _free_id(review.id, number, reviews)
        renamed += bool(review.id) and name != review.id
        reviews[name] = review if name == review.id else msgspec.structs.replace(review, id=name)
        if len(reviews) == count:
            break
    if not reviews:
        raise InputError(f"{where}: no row has text in column {picked['content']}: fill or map it")
    return FileReviews(
        reviews=tuple(reviews.values()), notes=_notes(len(reviews), count, empty, renamed)
    )


def _free_id(said: str, number: int, taken: Mapping[str, Review]) -> str:
    name = said or str(number)
    while name in taken:
        name = f"{name}-{number}"
    return name


def _notes(found: int, count: int | None, empty: int, renamed: int) -> tuple[str, ...]:
    notes = (
        (count is not None and found < count, f"file has only {found} reviews: all are used"),
        (empty > 0, f"{empty} rows without text skipped"),
        (renamed > 0, f"{renamed} repeated ids made unique by their row number"),
    )
    return tuple(note for applies, note in notes if applies)
