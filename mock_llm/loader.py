"""Files to tables, and the `[upstream]` table to its struct."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from mock_llm.config import Upstream
from mock_llm.errors import InputError
from mock_llm.strict import FieldError, convert, nearest

__all__ = ["beside", "convert", "load_upstream", "read_table"]

_DEEPEST = 64

_TOML_FAULT = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


def load_upstream(path: Path) -> Upstream:
    """The `[upstream]` table of a scenario file; its other tables are not looked at.

    Raises:
        InputError: as `read_table` and `convert`, or the file has no such table.
    """
    tables = read_table(path)
    if "upstream" not in tables:
        near = nearest("upstream", tables)
        hint = f"; is it [{near}]?" if near else ""
        raise InputError(f"{path}: missing table [upstream]{hint}")
    try:
        return beside(path, convert(tables["upstream"], Upstream, ""))
    except FieldError as error:
        raise error.at(str(path), ("upstream",)) from None


def beside(path: Path, upstream: Upstream) -> Upstream:
    """The same upstream, its cassette looked for in the folder of the scenario's file."""
    if upstream.cassette is None:
        return upstream
    file = str((path.parent / upstream.cassette.file).absolute())
    return msgspec.structs.replace(
        upstream, cassette=msgspec.structs.replace(upstream.cassette, file=file)
    )


def read_table(path: Path) -> dict[str, Any]:
    """Read a TOML file, or a JSON object when the name ends in `.json`.

    Raises:
        InputError: the file cannot be read, is not UTF-8, has a syntax error or holds nothing.
    """
    text = _read_text(path)
    try:
        table = _parse_json(text) if path.suffix.lower() == ".json" else _parse_toml(text)
        _check_depth(table)
    except RecursionError as error:
        raise InputError(f"{path}: nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(table, dict):
        raise InputError(f"{path}: expected an object at the top")
    if not table:
        raise InputError(f"{path}: empty: it has no tables")
    return table


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode().removeprefix("\ufeff")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: a directory, not a file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error


def _check_depth(value: Any, left: int = _DEEPEST) -> None:
    """Nothing that reads a table later need fear for its stack."""
    if not left:
        raise RecursionError
    if isinstance(value, dict | list):
        for below in value.values() if isinstance(value, dict) else value:
            _check_depth(below, left - 1)


def _parse_toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(_located(str(error), text)) from error


def _located(fault: str, text: str) -> str:
    """`line 3, column 5: ...` of tomllib's words, which end in the position or in none."""
    found = _TOML_FAULT.fullmatch(fault)
    if not found:
        return fault
    what, line, column = found.groups()
    lines = text.split("\n")
    return f"line {line or len(lines)}, column {column or len(lines[-1]) + 1}: {what}"


def _parse_json(text: str) -> Any:
    if not text.strip():
        return {}
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {max(names, key=names.count)!r} is there twice")
    return table
