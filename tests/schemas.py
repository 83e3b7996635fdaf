"""JSON Schemas that have instances, for the property tests."""

import re
from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]
NAMES = st.sampled_from(["label", "confidence", "reason", "a", "b", "items", "Größe"])
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
PATTERNS = ["^[A-Z]{3}-\\d{4}$", "^(red|green)+$", "\\w+@\\w+", "^$|^x", "[^a-z]{2,5}", "^.{3}$"]


def _limited(low: str, high: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """Two limits, one or none, in the right order."""

    def ordered(pair: tuple[Any, Any]) -> Json:
        one, other = sorted(pair)
        return {low: one, high: other}

    either = st.builds(lambda name, value: {name: value}, st.sampled_from([low, high]), values)
    return st.just({}) | either | st.tuples(values, values).map(ordered)


def _with(kind: str, *more: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.tuples(*more).map(
        lambda found: {"type": kind, **{k: v for d in found for k, v in d.items()}}
    )


FLOATS = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
INTEGERS = _with("integer", _limited("minimum", "maximum", st.integers(-50, 50)))
STEPPED = st.builds(
    lambda step, least: {"type": "number", "multipleOf": step, "minimum": least},
    st.sampled_from([0.01, 0.1, 0.5, 2, 7]),
    st.integers(-20, 20),
)
NUMBERS = (
    _with("number", _limited("minimum", "maximum", FLOATS))
    | STEPPED
    | st.builds(
        lambda low: {"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": low + 1}, FLOATS
    )
)
STRINGS = (
    _with("string", _limited("minLength", "maxLength", st.integers(0, 60)))
    | st.sampled_from(PATTERNS).map(lambda pattern: {"type": "string", "pattern": pattern})
    | st.sampled_from(["date", "date-time", "email", "uuid", "ipv4", "ipv6", "uri", "time"]).map(
        lambda name: {"type": "string", "format": name}
    )
)
FIXED = (
    st.lists(SCALARS, min_size=1, max_size=4).map(lambda values: {"enum": values})
    | SCALARS.map(lambda value: {"const": value})
    | st.sampled_from([{"type": "boolean"}, {"type": "null"}, {}, True])
    | st.sampled_from([["string", "null"], ["integer", "string"]]).map(
        lambda kinds: {"type": kinds}
    )
)
LEAVES = INTEGERS | NUMBERS | STRINGS | FIXED


def _arrays(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    sizes = _limited("minItems", "maxItems", st.integers(0, 4))
    plain = st.builds(lambda items, size: {"type": "array", "items": items, **size}, parts, sizes)
    fixed = st.lists(parts, min_size=1, max_size=3).map(
        lambda before: {
            "type": "array",
            "prefixItems": before,
            "items": False,
            "minItems": len(before),
        }
    )
    unique = st.just(
        {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 3, "uniqueItems": True}
    )
    return plain | fixed | unique


def _objects(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    def built(properties: Json, closed: Any, every: bool) -> Json:
        names = list(properties)
        return {
            "type": "object",
            "properties": properties,
            "required": names if every else names[:1],
            "additionalProperties": closed,
        }

    named = st.dictionaries(NAMES, parts, max_size=4)
    strict = st.builds(built, named, st.just(False) | parts, st.booleans())
    return strict | parts.map(lambda part: {"type": "object", "additionalProperties": part})


def _combined(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    kinds = ["string", "integer", "object", "array", "boolean"]
    apart = st.lists(st.sampled_from(kinds), min_size=1, max_size=3, unique=True)
    return (
        st.lists(parts, min_size=1, max_size=3).map(lambda some: {"anyOf": some})
        | apart.map(lambda some: {"oneOf": [{"type": kind} for kind in some]})
        | parts.map(lambda part: {"allOf": [part, {"title": "more"}]})
        | parts.map(lambda part: {"$defs": {"x": part}, "properties": {"y": True}, "allOf": [part]})
        | st.dictionaries(NAMES, parts, min_size=1, max_size=2).map(
            lambda some: {
                "type": "object",
                "allOf": [
                    {"properties": {name: part}, "required": [name]} for name, part in some.items()
                ],
            }
        )
    )


SCHEMAS = st.recursive(
    LEAVES, lambda parts: _arrays(parts) | _objects(parts) | _combined(parts), max_leaves=8
)

TREE: Json = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["value", "next", "children"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
assert all(re.compile(pattern) for pattern in PATTERNS)
