"""Instances of JSON Schemas, held against an independent validator."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemas import SCHEMAS, TREE, Json

from mock_llm.rng import Keyed
from mock_llm.structured import Hints, Unsatisfiable, document, instance


def drawn(seed: int = 1) -> Callable[[str], float]:
    stream = Keyed(seed).stream("shape")
    return lambda path: stream(path, 0)


def made(schema: object, seed: int = 1, hints: Hints | None = None) -> Any:
    return instance(document(json.dumps(schema).encode()), drawn(seed), hints)


def check_valid(schema: Any, value: object) -> None:
    """Fail unless the validator of `jsonschema` accepts the value, formats included."""
    judge = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    judge.validate(json.loads(json.dumps(value)))


@settings(deadline=None, max_examples=400)
@given(SCHEMAS, st.integers(0, 3))
def test_every_instance_is_one(schema: Any, seed: int) -> None:
    """Whatever a schema is put together from, its instance is valid, and the same every time."""
    value = made(schema, seed)
    check_valid(schema, value)
    assert made(schema, seed) == value


def test_seeds_give_different_instances() -> None:
    """What a schema leaves open is drawn."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    assert len({made(schema, seed)["n"] for seed in range(20)}) > 5


def test_recursive_schema_ends() -> None:
    """A tree of trees is a few levels deep, and its required parts are all there."""
    value = made(TREE)
    check_valid(TREE, value)
    assert set(value) == {"value", "next", "children"}
    assert 0 < len(json.dumps(value)) < 10_000


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"const": None}, None),
        ({"type": ["null", "boolean"], "enum": [None, 3]}, None),
        ({"enum": [True, 1], "type": "integer"}, 1),
        ({"type": "integer", "minimum": 6.5, "exclusiveMaximum": 8}, 7),
        ({"type": "number", "multipleOf": 0.25, "minimum": 0.6, "maximum": 0.9}, 0.75),
        ({"allOf": [{"multipleOf": 6}, {"multipleOf": 4}], "minimum": 1, "maximum": 23}, 12),
        ({"type": "number", "minimum": 3, "maximum": 3}, 3),
        ({"type": "string", "maxLength": 0}, ""),
        ({"type": "string", "pattern": "^(?:ab|ab){2}[^\\D1-9]$"}, "abab0"),
        ({"type": "array", "items": {"enum": [1]}, "maxItems": 1, "minItems": 1}, [1]),
        ({"type": "object", "required": ["x"], "additionalProperties": {"const": 1}}, {"x": 1}),
        (
            {"type": "object", "maxProperties": 1, "additionalProperties": {"const": 2}},
            {"key_1": 2},
        ),
        ({"properties": {"a": {"const": 1}, "b": False}}, {"a": 1}),
        ({"properties": {"a": {"const": 1}, "b": {"const": 2}}, "maxProperties": 1}, {"a": 1}),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"const": 5}}}, 5),
        ({"$defs": {"a": {"const": 1}}, "anyOf": [{"$ref": "#/$defs/a"}, False]}, 1),
        ({"oneOf": [{"type": "number", "enum": [4]}, {"type": "integer", "enum": [4, 5]}]}, 5),
        ({"type": "object", "oneOf": [False, {"properties": {"k": {"const": "b"}}}]}, {"k": "b"}),
    ],
)
def test_what_leaves_no_choice_is_found(schema: object, value: object) -> None:
    """Where only one instance is possible it is found, however it is said."""
    if "$ref" not in json.dumps(schema):
        check_valid(schema, value)
    assert made(schema) == value


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (False, "nothing is allowed at \\$"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "no number is from 2 to 1"),
        ({"type": "string", "minLength": 2, "maxLength": 1}, "no string at \\$ has 2 to 1"),
        ({"enum": []}, "no value of the enum at \\$"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "nothing is allowed at \\$"),
        ({"type": "string", "pattern": "(?=a)b"}, "what is not imitated"),
        ({"type": "string", "pattern": "["}, "is not understood"),
        ({"not": {"type": "null"}}, "the keyword `not` at \\$ is not imitated"),
        ({"properties": {"a": {"if": {}}}, "required": ["a"]}, "`if` at \\$.a"),
        ({"type": "text"}, "there is no type 'text'"),
        ({"type": 5}, "no JSON Schema at #"),
        ([], "no JSON Schema at #"),
        ({"properties": {"x": []}}, "no JSON Schema at #"),
        ({"$ref": "#/$defs/none"}, "leads nowhere"),
        ({"$ref": "https://example.com/schema"}, "leads nowhere"),
        ({"$ref": "#"}, "nothing is allowed"),
        ({"anyOf": [{"$ref": "#"}, {"const": 1}]}, "without end"),
        ({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "without end"),
        ({"type": "array", "items": {"enum": [1]}, "uniqueItems": True, "minItems": 2}, "differ"),
        ({"type": "array", "minItems": 10**4}, "over 10000 parts"),
        ({"type": "array", "minItems": 10**7}, "no JSON Schema at #"),
        ({"type": "number", "multipleOf": 0}, "above zero"),
    ],
)
def test_what_cannot_be_made_is_said(schema: object, why: str) -> None:
    """A schema without instances, or beyond what is imitated, is refused with its reason."""
    with pytest.raises(Unsatisfiable, match=why):
        made(schema)


def test_classifier_fills_what_it_knows() -> None:
    """A label and a confidence go where a schema has a place for them, in the place's own words."""
    schema: Json = {
        "type": "object",
        "properties": {
            "Sentiment": {"enum": ["POSITIVE", "NEGATIVE"]},
            "label": {"type": "string", "maxLength": 3},
            "confidence": {"type": "number", "maximum": 1},
            "score": {"type": "integer", "minimum": 1, "maximum": 100},
            "category": {"enum": ["book", "film"]},
        },
    }
    words = ("negative", "NEGATIVE", "neg")
    numbers = (0.93, 93)
    hints: Hints = {
        **dict.fromkeys(("sentiment", "label", "category"), words),
        **dict.fromkeys(("confidence", "score"), numbers),
    }
    value = made(schema, hints=hints)
    assert value.pop("category") in {"book", "film"}
    assert value == {"Sentiment": "NEGATIVE", "label": "neg", "confidence": 0.93, "score": 93}


def test_deep_nesting_is_refused() -> None:
    """A schema that nests as deep as the decoder goes is an answer's 400 and no crash."""
    deep = b'{"items":' * 5000 + b"{}" + b"}" * 5000
    with pytest.raises(Unsatisfiable):
        instance(document(deep), drawn())
