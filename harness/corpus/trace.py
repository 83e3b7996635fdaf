"""Recorded arrivals: when requests came, in a file."""

from math import isfinite
from pathlib import Path

from harness.corpus.files import decoded, found_beside, opened
from harness.corpus.formats import parse_csv
from harness.errors import InputError

COLUMN = "t_s"


def read_trace(file: str, base: Path | None = None) -> list[float]:
    """Times of arrival in order, seconds from the first.

    Args:
        file: CSV with a column `t_s`, plain or gzipped.
        base: where a relative path is looked for when it is not found from the working directory.

    Raises:
        InputError: the file cannot be read, has no column `t_s`, or a row without a time.
    """
    path = found_beside("trace", file, base)
    with opened(path) as stream:
        table = parse_csv(decoded(stream, path), str(path))
        if COLUMN not in table.columns:
            found = ", ".join(table.columns)
            raise InputError(f"{path}: no column {COLUMN} (seconds) among {found}: rename one")
        times = sorted(_time(row.values[COLUMN], path, row.line) for row in table.rows)
    return [time - times[0] for time in times]


def _time(text: object, path: Path, line: int) -> float:
    try:
        time = float(str(text))
    except ValueError:
        time = float("nan")
    if not isfinite(time):
        raise InputError(f"{path}, line {line}: {COLUMN} is {text!r}, no time in seconds: mend it")
    return time
