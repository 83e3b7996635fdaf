"""Tables laid on tables. Nothing here changes its arguments."""

from collections.abc import Mapping, Sequence
from typing import Any


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the tables of `over` laid on it, key by key.

    A table of `over` that names its `kind` replaces the one below it, whole: the parameters of
    one distribution or router mean nothing to another.
    """
    if "kind" in over:
        return dict(over)
    return {**base, **{key: _laid(base.get(key), value) for key, value in over.items()}}


def _laid(below: Any, value: Any) -> Any:
    both = isinstance(below, Mapping) and isinstance(value, Mapping)
    return merge(below, value) if both else value


def assign(table: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """`table` with the entry at `path` replaced; tables missing on the way are made."""
    key, *rest = path
    if not rest:
        return {**table, key: value}
    below = table.get(key)
    return {**table, key: assign(below if isinstance(below, Mapping) else {}, rest, value)}


def fit(table: Mapping[str, Any], path: Sequence[str]) -> tuple[str, ...]:
    """Join parts of a path that only together name a key of `table`.

    Shells eat the quotes of `models."openai/gpt-3.5-turbo"`, and the id falls apart at its dot.
    """
    if not path:
        return ()
    joins = (n for n in range(len(path), 1, -1) if ".".join(path[:n]) in table)
    size = next(joins, 1)
    key, rest = ".".join(path[:size]), path[size:]
    below = table.get(key)
    return (key, *fit(below if isinstance(below, Mapping) else {}, rest))
