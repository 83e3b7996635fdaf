"""Two schemas as one: what `allOf`, and keywords beside a reference, come down to."""

from collections.abc import Callable
from fractions import Fraction
from math import lcm
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from mock_llm.structured.matches import equal, item_schema
from mock_llm.structured.schema import Node, Schema, Unsatisfiable

T = TypeVar("T")


def merged(one: Schema, other: Schema) -> Schema:
    """Return the schema of what is an instance of both.

    Neither may have combiners left. Where one schema cannot say it (two patterns, two formats), the
    first stands, and whoever makes an instance has to test it.

    Raises:
        Unsatisfiable: nothing is an instance of both.
    """
    properties, more = _properties(one, other)
    before, items = _items(one, other)
    return Schema(
        type=_types(one, other),
        enum=_values(one, other),
        properties=properties,
        required=tuple(dict.fromkeys((*one.required, *other.required))),
        additional_properties=more,
        min_properties=max(one.min_properties, other.min_properties),
        max_properties=_either(min, one.max_properties, other.max_properties),
        items=items,
        prefix_items=before,
        min_items=max(one.min_items, other.min_items),
        max_items=_either(min, one.max_items, other.max_items),
        unique_items=one.unique_items or other.unique_items,
        minimum=_either(max, one.minimum, other.minimum),
        maximum=_either(min, one.maximum, other.maximum),
        exclusive_minimum=_either(max, one.exclusive_minimum, other.exclusive_minimum),
        exclusive_maximum=_either(min, one.exclusive_maximum, other.exclusive_maximum),
        multiple_of=_either(common_step, one.multiple_of, other.multiple_of),
        min_length=max(one.min_length, other.min_length),
        max_length=_either(min, one.max_length, other.max_length),
        pattern=one.pattern or other.pattern,
        format=one.format or other.format,
    )


def common_step(one: float, other: float) -> float:
    """Return the smallest number that is a multiple of both."""
    left, right = Fraction(str(one)), Fraction(str(other))
    over = left.denominator * right.denominator
    step = Fraction(
        lcm(left.numerator * right.denominator, right.numerator * left.denominator), over
    )
    return step.numerator if step.denominator == 1 else float(step)


def plain(schema: Schema) -> Schema:
    """Return a schema without its combiners, and with a constant as the only one of an `enum`."""
    values = schema.enum
    if schema.const is not UNSET:
        alone = values is None or any(equal(one, schema.const) for one in values)
        values = (schema.const,) if alone else ()
    return msgspec.structs.replace(
        schema, ref=None, any_of=None, one_of=None, all_of=(), const=UNSET, enum=values
    )


def _either(choose: Callable[[T, T], T], one: T | None, other: T | None) -> T | None:
    if one is None or other is None:
        return other if one is None else one
    return choose(one, other)


def _types(one: Schema, other: Schema) -> tuple[str, ...] | None:
    if one.type is None and other.type is None:
        return None
    left, right = _named(one), _named(other)
    if left is None or right is None:
        return left or right
    both = [kind for kind in left if kind in right or (kind == "integer" and "number" in right)]
    both += [kind for kind in right if kind == "integer" and "number" in left]
    if not both:
        raise Unsatisfiable("nothing has two types at once")
    return tuple(dict.fromkeys(both))


def _named(schema: Schema) -> tuple[str, ...] | None:
    return (schema.type,) if isinstance(schema.type, str) else schema.type


def _values(one: Schema, other: Schema) -> tuple[Any, ...] | None:
    if one.enum is None or other.enum is None:
        return one.enum if other.enum is None else other.enum
    return tuple(left for left in one.enum if any(equal(left, right) for right in other.enum))


def _both(one: Node, other: Node) -> Node:
    if isinstance(one, bool):
        return other if one else False
    if isinstance(other, bool):
        return one if other else False
    return one if one is other else Schema(all_of=(one, other))


def _properties(one: Schema, other: Schema) -> tuple[dict[str, Node], Node]:
    left, right = one.additional_properties, other.additional_properties
    names = dict.fromkeys((*one.properties, *other.properties))
    found = {
        name: _both(one.properties.get(name, left), other.properties.get(name, right))
        for name in names
    }
    return found, _both(left, right)


def _items(one: Schema, other: Schema) -> tuple[tuple[Node, ...], Node]:
    count = max(_length(one), _length(other))
    before = [_both(item_schema(one, at), item_schema(other, at)) for at in range(count)]
    return tuple(before), _both(item_schema(one, count), item_schema(other, count))


def _length(schema: Schema) -> int:
    return len(schema.items) if isinstance(schema.items, tuple) else len(schema.prefix_items)
