"""What a single value may be: its type, its bounds, its allowed words."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import inspect

from mock_llm.strict.complaint import FieldError, Path, describe, nearest

# What each kind of TOML or JSON value may stand for; bool first, because True is also an int.
_FITS: tuple[tuple[type | tuple[type, ...], tuple[type[inspect.Type], ...]], ...] = (
    (bool, (inspect.BoolType,)),
    (int, (inspect.IntType, inspect.FloatType, inspect.LiteralType)),
    (float, (inspect.FloatType,)),
    (str, (inspect.StrType, inspect.LiteralType)),
    ((list, tuple), (inspect.CollectionType, inspect.TupleType)),
    (dict, (inspect.DictType, inspect.StructType)),
)
_NAMES: tuple[tuple[type[inspect.Type], str], ...] = (
    (inspect.BoolType, "true or false"),
    (inspect.IntType, "a whole number"),
    (inspect.FloatType, "a number"),
    (inspect.StrType, "text"),
    (inspect.CollectionType, "a list"),
    (inspect.TupleType, "a list"),
    (inspect.DictType, "a table"),
    (inspect.StructType, "a table"),
    (inspect.NoneType, "'none'"),
)
_BOUNDS: tuple[tuple[str, Callable[[Any, Any], bool], str], ...] = (
    ("ge", operator.ge, ">="),
    ("gt", operator.gt, ">"),
    ("le", operator.le, "<="),
    ("lt", operator.lt, "<"),
)


def fits(value: Any, node: inspect.Type) -> bool:
    """Whether a value is of the right kind for a type, whatever its bounds."""
    nodes = next((nodes for kind, nodes in _FITS if isinstance(value, kind)), ())
    return isinstance(node, nodes)


def wrong_type(value: Any, node: inspect.Type, path: Path) -> FieldError:
    """`expected a number or 'none', got the text 'five'`."""
    return FieldError(path, f"expected {expected(node)}, got {describe(value)}")


def expected(node: inspect.Type) -> str:
    """A type as a user would call it."""
    if isinstance(node, inspect.UnionType):
        return " or ".join(dict.fromkeys(map(expected, node.types)))
    if isinstance(node, inspect.LiteralType):
        return " or ".join(map(repr, node.values))
    return next(name for kind, name in _NAMES if isinstance(node, kind))


def plain(value: Any, path: Path) -> Any:
    """A copy of untyped data, all of whose numbers are finite."""
    if isinstance(value, dict):
        return {key: plain(v, (*path, key)) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, (*path, i)) for i, v in enumerate(value)]
    return _finite(value, path) if isinstance(value, float) else value


def _shown(value: float) -> str:
    return describe(value).removeprefix("the number ")


def _finite(value: float, path: Path) -> float:
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        finite = False
    if not finite:
        raise FieldError(path, f"must be finite, got {_shown(value)}")
    return value


def number(value: float, node: inspect.IntType | inspect.FloatType, path: Path) -> float:
    """The number, if it is within the type's bounds."""
    if isinstance(node, inspect.FloatType):
        _finite(value, path)
    for name, holds, sign in _BOUNDS:
        limit = getattr(node, name)
        if limit is not None and not holds(value, limit):
            raise FieldError(path, f"must be {sign} {limit:.12g}, got {_shown(value)}")
    return value


def sized(
    value: Any, node: inspect.StrType | inspect.DictType | inspect.CollectionType, path: Path
) -> Any:
    """The text, table or list, if it is neither too short nor too long."""
    least, most = node.min_length or 0, node.max_length or math.inf
    if not least <= len(value) <= most:
        bound = f">= {least}" if len(value) < least else f"<= {most}"
        raise FieldError(path, f"must have a length {bound}, got {len(value)}")
    return value


def literal(value: Any, allowed: Sequence[Any], path: Path) -> Any:
    """The word, if it is one of the allowed."""
    if value in allowed and not isinstance(value, bool | float):
        return value
    words = [word for word in allowed if isinstance(word, str)]
    near = nearest(value, words) if isinstance(value, str) else None
    said = f"did you mean '{near}'?" if near else f"expected {' or '.join(map(repr, allowed))}"
    raise FieldError(path, f"unknown value, {describe(value)}; {said}")
