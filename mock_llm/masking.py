"""API keys as they may be shown: never the part that is secret."""

import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Any

_PUBLIC = re.compile(r"sk-(?:or-v1-|proj-|svcacct-|admin-|ant-(?:api|admin)\d\d-)?")
_SECRET = re.compile(r"sk-[\w-]{4,}")
LONGEST_MADE_UP = 16  # no provider's keys are as short as that


@lru_cache(maxsize=1024)
def masked(key: str) -> str:
    """A key as it may be stored.

    What is short and does not begin with `sk-` is obviously made up and stays as it is. Of any
    other only the beginning that all keys of its kind share is left, and six digits of a hash, so
    that two accounts can be told apart.
    """
    public = _PUBLIC.match(key)
    if public is None and len(key) <= LONGEST_MADE_UP:
        return key
    digest = blake2b(key.encode("utf-8", "replace"), digest_size=3).hexdigest()
    return f"{public[0] if public else ''}...{digest}"


def masked_table(table: dict[str, Any]) -> dict[str, Any]:
    """An `[upstream]` table as it may be shown: its `keys`, and what else looks like a key."""
    shown: dict[str, Any] = mapped(table, _if_secret)
    if keys := table.get("keys"):
        shown["keys"] = mapped(keys, masked)
    return shown


def unmasked_table(table: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """A table with the keys of the known one in place of their masks."""
    real: dict[str, str] = {}
    mapped(known, lambda text: real.setdefault(_if_secret(text), text))
    mapped(known.get("keys", ()), lambda text: real.setdefault(masked(text), text))
    restored: dict[str, Any] = mapped(table, lambda text: real.get(text, text))
    return restored


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of plain data with every text changed, names too."""
    if isinstance(value, dict):
        return {change(name): mapped(below, change) for name, below in value.items()}
    if isinstance(value, list | tuple):
        return [mapped(below, change) for below in value]
    return change(value) if isinstance(value, str) else value


def _if_secret(text: str) -> str:
    return masked(text) if _SECRET.fullmatch(text) else text
