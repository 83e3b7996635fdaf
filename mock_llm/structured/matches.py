"""Whether a value is an instance of a schema: the keywords of `Schema`, as JSON Schema has them."""

import re
from fractions import Fraction
from typing import Any

from msgspec import UNSET

from mock_llm.structured.schema import Document, Node, Schema, Unsatisfiable

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def matches(document: Document, node: Node, value: Any) -> bool:
    """Whether the value is an instance of a part of the document; `format` is not looked at."""
    if isinstance(node, bool):
        return node
    if node.ref is not None and not matches(document, document.at(node.ref), value):
        return False
    return (
        _typed(node, value)
        and all(matches(document, part, value) for part in node.all_of)
        and (node.any_of is None or any(matches(document, part, value) for part in node.any_of))
        and (
            node.one_of is None or sum(matches(document, part, value) for part in node.one_of) == 1
        )
        and _fits(document, node, value)
    )


def is_kind(kind: str, value: Any) -> bool:
    """Whether a value has a JSON type; 1.0 is an integer, True is no number."""
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(kind, ()))


def equal(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _typed(schema: Schema, value: Any) -> bool:
    named = (schema.type,) if isinstance(schema.type, str) else schema.type
    if named is not None and not any(is_kind(kind, value) for kind in named):
        return False
    if schema.enum is not None and not any(equal(one, value) for one in schema.enum):
        return False
    return schema.const is UNSET or equal(schema.const, value)


def _fits(document: Document, schema: Schema, value: Any) -> bool:
    if isinstance(value, str):
        return _string(schema, value)
    if isinstance(value, dict):
        return _object(document, schema, value)
    if isinstance(value, list):
        return _array(document, schema, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(schema, value)
    return True


def _string(schema: Schema, value: str) -> bool:
    if not schema.min_length <= len(value) <= _limit(schema.max_length, len(value)):
        return False
    try:
        return schema.pattern is None or re.search(schema.pattern, value) is not None
    except re.error as error:
        raise Unsatisfiable(f"the pattern {schema.pattern!r} is not understood: {error}") from error


def _number(schema: Schema, value: float) -> bool:
    low, high = schema.minimum, schema.maximum
    above, below, step = schema.exclusive_minimum, schema.exclusive_maximum, schema.multiple_of
    return (
        (low is None or value >= low)
        and (high is None or value <= high)
        and (above is None or value > above)
        and (below is None or value < below)
        and (step is None or is_multiple(value, step))
    )


def is_multiple(value: float, step: float) -> bool:
    """Whether it is one by decimals and by division, which validators differ about."""
    if step <= 0:
        return False
    exact = Fraction(str(value)) % Fraction(str(step)) == 0
    if isinstance(step, int) and isinstance(value, int):
        return exact
    return exact and (value / step).is_integer()


def _array(document: Document, schema: Schema, value: list[Any]) -> bool:
    if not schema.min_items <= len(value) <= _limit(schema.max_items, len(value)):
        return False
    if schema.unique_items and any(
        equal(one, other) for index, one in enumerate(value) for other in value[:index]
    ):
        return False
    return all(
        matches(document, item_schema(schema, index), item) for index, item in enumerate(value)
    )


def item_schema(schema: Schema, index: int) -> Node:
    """Return the schema of an array's item."""
    if isinstance(schema.items, tuple):  # as it was written before 2020
        return schema.items[index] if index < len(schema.items) else True
    return schema.prefix_items[index] if index < len(schema.prefix_items) else schema.items


def _object(document: Document, schema: Schema, value: dict[str, Any]) -> bool:
    if not schema.min_properties <= len(value) <= _limit(schema.max_properties, len(value)):
        return False
    return value.keys() >= set(schema.required) and all(
        matches(document, schema.properties.get(name, schema.additional_properties), part)
        for name, part in value.items()
    )


def _limit(declared: int | None, size: int) -> int:
    return size if declared is None else declared
