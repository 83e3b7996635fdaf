"""How a fault in a table is told: where it is, what is wrong, and the nearest right name."""

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from mock_llm.errors import InputError

Path = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def dotted(path: Sequence[str | int]) -> str:
    """A path as TOML writes it: `upstream.models."openai/gpt-4o".skill`, `thresholds[1]`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{_quoted(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def _quoted(key: str) -> str:
    if _BARE_KEY.fullmatch(key):
        return key
    return json.dumps(key, ensure_ascii=not key.isprintable())


class FieldError(InputError):
    """One entry of a table is wrong.

    Attributes:
        path: from the root of the table to the culprit.
        what: what is wrong and what would be right.
        where: the file or option that holds the table.
    """

    def __init__(self, path: Path, what: str, where: str = "") -> None:
        self.path = path
        self.what = " ".join(what.split())
        self.where = where
        super().__init__(": ".join(filter(None, (where, dotted(path), self.what))))

    def at(self, where: str, above: Path = ()) -> "FieldError":
        """The same fault, told of the file `where` and seen from `above` its table."""
        return FieldError((*above, *self.path), self.what, where)


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name most like `word`, or None when nothing is near.

    Two swapped letters leave a name of two or three only half alike: short words get more leeway.
    """
    cutoff = 0.6 if len(word) > 3 else 0.5
    return next(iter(difflib.get_close_matches(word.lower(), names, n=1, cutoff=cutoff)), None)


def suggest(word: str, names: Sequence[str], noun: str = "known") -> str:
    """`did you mean 'x'?`, or all the names when none is near."""
    near = nearest(word, names)
    return f"did you mean '{near}'?" if near else f"{noun}: {', '.join(names)}"


def describe(value: Any) -> str:
    """A value as its author would call it, short and on one line."""
    match value:
        case bool():
            return str(value).lower()
        case int() if value.bit_length() > 128:
            return "a huge number"  # printing one may be quadratic, or refused
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {value if len(value) <= 40 else value[:37] + '...'!r}"
        case dict():
            return "a table"
        case list() | tuple():
            return "a list"
        case None:
            return "null"
        case _:
            return f"the date or time {value}"
