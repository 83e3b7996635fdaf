"""CSV and JSONL: lines in, column names and rows out."""

import csv
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

import msgspec

from harness.errors import InputError

MAX_FIELD_CHARS = 10_000_000
"""A longer CSV field is a quote that was never closed."""


class Row(NamedTuple):
    """Values by column, and the line the row ends on, counted from 1."""

    line: int
    values: Mapping[str, object]


class Table(NamedTuple):
    """The columns there are, and the rows as they are read."""

    columns: tuple[str, ...]
    rows: Iterator[Row]


Parser = Callable[[Iterator[str], str], Table]


def parser_of(name: str) -> Parser:
    """The parser for a file's name; ``.gz`` at its end does not count.

    Raises:
        InputError: neither CSV nor JSONL.
    """
    bare = name.lower().removesuffix(".gz")
    if bare.endswith(".csv"):
        return parse_csv
    if bare.endswith((".jsonl", ".ndjson")):
        return parse_jsonl
    raise InputError(f"{name}: not a corpus: give a .csv or .jsonl file, or one of them as .gz")


def parse_csv(lines: Iterator[str], where: str) -> Table:
    """Rows under a header; a short row is filled up with empty values.

    Raises:
        InputError: no header, no row, or (from the iterator) a line that is not CSV.
    """
    reader = csv.DictReader(lines, restval="")
    rows = _csv_rows(reader, where)
    first = next(rows, None)
    if not reader.fieldnames:
        raise InputError(f"{where}: is empty: its first line must name the columns")
    if first is None:
        raise InputError(f"{where}: has a header and no rows: add some below it")
    return Table(tuple(reader.fieldnames), chain([first], rows))


def _csv_rows(reader: "csv.DictReader[str]", where: str) -> Iterator[Row]:
    limit = csv.field_size_limit(MAX_FIELD_CHARS)  # global to the module, so it is put back
    try:
        for values in reader:
            yield Row(reader.line_num, values)
    except csv.Error as error:
        line = reader.reader.line_num  # that of the DictReader is not yet up to date
        raise InputError(
            f"{where}, line {line}: not CSV, correct its quotes or line ends: {error}"
        ) from None
    finally:
        csv.field_size_limit(limit)


def parse_jsonl(lines: Iterator[str], where: str) -> Table:
    """One object per line, blank lines ignored; the columns are those of the first row.

    Raises:
        InputError: no row, or (from the iterator too) a line that is not a JSON object.
    """
    rows = _jsonl_rows(lines, where)
    first = next(rows, None)
    if first is None:
        raise InputError(f'{where}: is empty: give one object like {{"content": "..."}} per line')
    return Table(tuple(first.values), chain([first], rows))


def _jsonl_rows(lines: Iterator[str], where: str) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield Row(number, _object(line, f"{where}, line {number}"))


def _object(line: str, where: str) -> dict[str, object]:
    try:
        value = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise InputError(f"{where}: not JSON, every line must be one object: {error}") from None
    if isinstance(value, dict):
        return value
    raise InputError(
        f'{where}: a {type(value).__name__}, where an object like {{"content": "..."}} is needed'
    )
