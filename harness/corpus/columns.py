"""Which column of a file holds which field of a review."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches

from harness.errors import InputError

OPTIONAL = ("id", "title", "category", "label", "rating")
"""Fields that a file may leave out, and the columns they are read from unless mapped."""
TEXT = ("content", "text", "review", "body")
"""Columns that the content is read from unless mapped, the first that is there."""
FIELDS = ("content", *OPTIONAL)


def pick_columns(
    available: Collection[str], columns: Mapping[str, str], where: str
) -> dict[str, str]:
    """Field to column; a column of another field than the text may be missing from rows.

    Args:
        available: the file's column names.
        columns: what the user said, field to column; such a column serves no other field unasked.
        where: what to begin an error with.

    Raises:
        InputError: an unknown field, a column that is not there, or no column of text.
    """
    for field, column in columns.items():
        _check(field, column, available, where)
    claimed = set(columns.values())
    picked = {name: name for name in OPTIONAL if name not in claimed} | dict(columns)
    texts = [name for name in TEXT if name in available and name not in claimed]
    if texts:
        picked.setdefault("content", texts[0])
    if "content" not in picked:
        raise InputError(
            f"{where}: no column holds the text (the columns are {_listed(available)}): "
            'say which does under [workload.columns], as content = "..."'
        )
    return picked


def _check(field: str, column: str, available: Collection[str], where: str) -> None:
    if field not in FIELDS:
        near = get_close_matches(field, FIELDS, 1, 0.0)[0]
        raise InputError(
            f"[workload.columns] {field}: no such field of a review, did you mean {near}? "
            f"(the fields are {_listed(FIELDS)})"
        )
    if column not in available:
        raise InputError(
            f'{where}: no column "{column}" for {field} (the columns are {_listed(available)}): '
            f"correct [workload.columns] {field}"
        )


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(str, names)) or "none"
