"""The command line's `--set dotted.key=value`: parsed, applied, and blamed when it does not fit."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from harness.errors import InputError
from harness.scenario.merge import assign, fit
from mock_llm.strict import FieldError

_PART = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^\s."'=]+))\s*([.=]|$)""")
_LONGEST = 32
_BARE_FRACTION = re.compile(r"(?<![\w.])\.(?=\d)")


class Setting(msgspec.Struct, frozen=True):
    """One `--set`.

    Attributes:
        text: as typed.
        path: the key, part by part.
        value: as TOML would give it.
    """

    text: str
    path: tuple[str, ...]
    value: Any


def parse_setting(text: str) -> Setting:
    """Parse `a.b."quoted.part"=value`.

    The value is TOML where it parses (`.5` is a number too), else plain text.

    Raises:
        InputError: there is no `=`, a part of the key is empty, or it names `variants`.
    """
    shown = f"--set {' '.join(text.split())}"
    path, rest = _split(text, shown)
    if path[0] == "variants":
        raise InputError(f"{shown}: set the key itself; it changes every variant alike")
    if path[0] == "slo" and len(path) > 1:
        path = ["slo", ".".join(path[1:])]
    return Setting(shown, tuple(path), value_of(rest.strip()))


def _split(text: str, shown: str) -> tuple[list[str], str]:
    """The parts of the key, and what comes after the `=`."""
    path: list[str] = []
    at, end = 0, "."
    while end == ".":
        found = _PART.match(text, at)
        if not found or len(path) >= _LONGEST:
            raise InputError(f"{shown}: expected dotted.key=value, with a name between dots")
        path.append(next(part for part in found.groups() if part is not None))
        at, end = found.end(), found[4]
    if not end:
        raise InputError(f"{shown}: no '='; expected dotted.key=value")
    return path, text[at:]


def value_of(text: str) -> Any:
    """What a value on the command line is: TOML where it parses, else plain text."""
    for candidate in (text, _BARE_FRACTION.sub("0.", text)):
        try:
            table = tomllib.loads(f"value = {candidate}")
        except (ValueError, RecursionError):
            continue
        # A line break in the text would smuggle in further keys; dates are no setting's type.
        if len(table) == 1 and isinstance(table["value"], bool | int | float | str | list | dict):
            return table["value"]
    return text


def fitted(settings: Sequence[Setting], table: Mapping[str, Any]) -> list[Setting]:
    """The settings with their paths matched to the keys of a table; see `fit`."""
    return [msgspec.structs.replace(setting, path=fit(table, setting.path)) for setting in settings]


def apply(
    settings: Sequence[Setting], table: Mapping[str, Any], resolved: msgspec.Struct
) -> dict[str, Any]:
    """The table with every setting made, in order.

    Args:
        settings: with fitted paths.
        table: left as it is.
        resolved: the struct of the same table: it knows which of its parts a `kind` governs.
            There, setting the kind drops the parameters of the kind before.
    """
    changed = dict(table)
    for setting in settings:
        *above, key = setting.path
        if key == "kind" and _is_tagged(resolved, above):
            changed = assign(changed, above, {key: setting.value})
        else:
            changed = assign(changed, setting.path, setting.value)
    return changed


def _is_tagged(root: msgspec.Struct, path: Sequence[str]) -> bool:
    """Whether the `kind` there decides what else there may be (a router's, not the workload's)."""
    found: Any = root
    for part in path:
        found = found.get(part) if isinstance(found, dict) else getattr(found, part, None)
    return isinstance(found, msgspec.Struct) and found.__struct_config__.tag is not None


def blame(error: FieldError, settings: Sequence[Setting], variant: str = "") -> FieldError:
    """The error as the fault of a setting; without the settings all was well.

    It is the setting nearest to the culprit, the last one of such.
    """
    guilty = max(reversed(settings), key=lambda setting: _shared(setting.path, error.path))
    path = () if error.path == guilty.path else error.path
    inside = f" (in variant {variant!r})" if variant else ""
    return FieldError(path, error.what + inside, guilty.text)


def _shared(one: Sequence[str], other: Sequence[str | int]) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
