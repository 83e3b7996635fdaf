"""Strings: words of the right length, and those that a format or a pattern asks for."""

import re
import re._constants as ops  # type: ignore[import-not-found]
from collections.abc import Callable, Sequence
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from mock_llm.structured.schema import Schema, Unsatisfiable

Uniform = Callable[[str], float]

_WORDS = "the review says what it liked and what it did not and on balance one side weighs more so "
_USUAL = 24
_TRIES = 40
_LONGEST = 100_000
_CLASSES = {"category_digit": "0123456789", "category_word": "abcxyz_09", "category_space": " "}
_PRINTED = "".join(map(chr, range(0x20, 0x7F)))


def string(schema: Schema, path: str, uniform: Uniform) -> str:
    """Return a string that the schema allows.

    Raises:
        Unsatisfiable: none was found.
    """
    drawn = uniform(path)
    if schema.pattern is not None:
        return _patterned(schema, path, uniform)
    made = _FORMATS.get(schema.format or "")
    if made is not None:
        return made(int(drawn * 10**9))
    most = _LONGEST if schema.max_length is None else schema.max_length
    if schema.min_length > most:
        raise Unsatisfiable(f"no string at {path} has {schema.min_length} to {most} characters")
    size = max(min(_USUAL, most), schema.min_length)
    start = int(drawn * len(_WORDS))
    said = _WORDS[start:] + _WORDS * (size // len(_WORDS) + 1)
    return said.lstrip()[:size] if size else ""


def _patterned(schema: Schema, path: str, uniform: Uniform) -> str:
    try:
        parts = parser.parse(schema.pattern)
        checked = re.compile(schema.pattern or "")
    except (re.error, OverflowError) as error:
        why = f"the pattern {schema.pattern!r} is not understood: {error}"
        raise Unsatisfiable(why) from error
    most = _LONGEST if schema.max_length is None else schema.max_length
    for salt in range(_TRIES):
        said = _Spelling(path, uniform, salt).of(parts)
        if schema.min_length <= len(said) <= most and checked.search(said):
            return said
        if len(said) < schema.min_length and checked.search(
            longer := said.ljust(schema.min_length, "a")
        ):
            return longer
    raise Unsatisfiable(f"no string for the pattern {schema.pattern!r} at {path}")


class _Spelling:
    """Spells a parsed pattern; a higher salt repeats more, and chooses others."""

    def __init__(self, path: str, uniform: Uniform, salt: int) -> None:
        self._path, self._uniform, self._salt, self._drawn = path, uniform, salt, 0

    def _draw(self) -> float:
        self._drawn += 1
        return self._uniform(f"{self._path}~{self._salt}~{self._drawn}")

    def of(self, parts: Sequence[tuple[Any, Any]]) -> str:
        return "".join(self._one(op, value) for op, value in parts)

    def _one(self, op: Any, value: Any) -> str:
        if op is ops.LITERAL:
            return chr(value)
        if op is ops.ANY:
            return self._among("abcdefghijklmnopqrstuvwxyz")
        if op is ops.NOT_LITERAL:
            return self._among(_PRINTED.replace(chr(value), ""))
        if op is ops.IN:
            return self._among(_members(value))
        if op is ops.BRANCH:
            return self.of(value[1][int(self._draw() * len(value[1]))])
        if op is ops.SUBPATTERN:
            return self.of(value[3])
        if op in {ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT}:
            least, most, repeated = value
            times = min(most, least + self._salt + (self._draw() < 0.5))
            if times > _LONGEST:
                raise Unsatisfiable(f"the pattern at {self._path} repeats too often")
            return "".join(self.of(repeated) for _ in range(times))
        if op is ops.AT:
            return ""
        raise Unsatisfiable(f"the pattern at {self._path} has what is not imitated: {op}")

    def _among(self, characters: str) -> str:
        if not characters:
            raise Unsatisfiable(f"the pattern at {self._path} allows no character")
        return characters[int(self._draw() * len(characters))]


def _members(parts: Sequence[tuple[Any, Any]]) -> str:
    """The characters of a set, the printed ones where it says which are not in it."""
    found = "".join(_member(op, value) for op, value in parts)
    if parts[0][0] is ops.NEGATE:
        return "".join(one for one in _PRINTED if one not in found)
    return found


def _member(op: Any, value: Any) -> str:
    if op is ops.LITERAL:
        return chr(value)
    if op is ops.RANGE:
        return "".join(map(chr, range(value[0], min(value[1], value[0] + 255) + 1)))
    if op is ops.CATEGORY:
        name = str(value).lower()
        known = _CLASSES.get(name.replace("_not", ""), "")
        return (
            known
            if "_not" not in name
            else "".join(one for one in _PRINTED if one not in _wide(known))
        )
    return ""


def _wide(known: str) -> set[str]:
    letters = {one for one in _PRINTED if one.isalnum() or one == "_"}
    return letters if "a" in known else set(known)


def _date(seed: int) -> str:
    return f"2026-{seed % 12 + 1:02d}-{seed // 12 % 28 + 1:02d}"


def _time(seed: int) -> str:
    return f"{seed % 24:02d}:{seed // 24 % 60:02d}:{seed // 1440 % 60:02d}"


def _address(seed: int) -> str:
    return f"192.0.2.{seed % 254 + 1}"


_FORMATS: dict[str, Callable[[int], str]] = {
    "date": _date,
    "time": lambda seed: f"{_time(seed)}Z",
    "date-time": lambda seed: f"{_date(seed)}T{_time(seed)}Z",
    "duration": lambda seed: f"PT{seed % 600 + 1}S",
    "email": lambda seed: f"user{seed % 1000}@example.com",
    "idn-email": lambda seed: f"user{seed % 1000}@example.com",
    "hostname": lambda seed: f"host{seed % 1000}.example.com",
    "ipv4": _address,
    "ipv6": lambda seed: f"2001:db8::{seed % 65_535:x}",
    "uri": lambda seed: f"https://example.com/{seed % 1000}",
    "uri-reference": lambda seed: f"/{seed % 1000}",
    "uuid": lambda seed: f"{seed:08x}-0000-4000-8000-{seed * 7919:012x}",
    "json-pointer": lambda seed: f"/{seed % 1000}",
    "regex": lambda _: "^[a-z]+$",
}
