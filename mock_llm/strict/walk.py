"""Plain data to frozen structs, strictly, every fault told by its dotted path.

Theory of operation. msgspec alone names the culprit by `$.models[...].skill`, stops short of the
nearest right name and lets nan through. So the type's description (`msgspec.inspect`) is walked
together with the data; every leaf is checked here, where its path is known, and every struct is
then made by `msgspec.convert` from parts that are already right, which runs `__post_init__` and
would refuse whatever this walk forgot. On the way the text "none" becomes None wherever the type
admits None, and nowhere else: free text may well say "none".
"""

import functools
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from mock_llm.errors import InputError
from mock_llm.strict.complaint import FieldError, Path, describe, dotted, nearest, suggest
from mock_llm.strict.leaves import expected, fits, literal, number, plain, sized, wrong_type

T = TypeVar("T")


def convert(data: Any, type_: type[T], where: str) -> T:
    """Make a `type_` of plain data, such as `tomllib` and `json` give.

    Args:
        data: never changed, and shares nothing mutable with the result.
        type_: a msgspec struct, or any type of structs, tables, lists, text and numbers.
        where: the file or option the data came from, for the message.

    Raises:
        FieldError: an unknown key, kind or literal, a wrong type, a number out of bounds or not
            finite, a missing key, or what a struct's `__post_init__` refuses.
    """
    try:
        return msgspec.convert(_build(data, _node(cast("Hashable", type_)), ()), type_)
    except FieldError as error:
        raise error.at(where) from None
    except RecursionError as error:
        raise FieldError((), "nested too deeply", where) from error


@functools.cache
def _node(type_: Hashable) -> inspect.Type:
    return inspect.type_info(type_)


def _build(value: Any, node: inspect.Type, path: Path) -> Any:
    match node:
        case inspect.AnyType():
            return plain(value, path)
        case inspect.UnionType():
            return _union(value, node, path)
        case inspect.LiteralType():
            return literal(value, node.values, path)
    if not fits(value, node):
        raise wrong_type(value, node, path)
    match node:
        case inspect.StructType():
            return _struct(value, node, path)
        case inspect.DictType():
            below = {key: _build(v, node.value_type, (*path, key)) for key, v in value.items()}
            return sized(below, node, path)
        case inspect.CollectionType():
            items = [_build(v, node.item_type, (*path, i)) for i, v in enumerate(value)]
            return sized(items, node, path)
        case inspect.TupleType():
            return _tuple(value, node, path)
        case inspect.IntType() | inspect.FloatType():
            return number(value, node, path)
        case inspect.StrType():
            return sized(value, node, path)
    return value


def _tuple(value: Sequence[Any], node: inspect.TupleType, path: Path) -> list[Any]:
    if len(value) != len(node.item_types):
        wanted = f"a list of {len(node.item_types)}"
        raise FieldError(path, f"expected {wanted}, got a list of {len(value)}")
    pairs = zip(value, node.item_types, strict=True)
    return [_build(v, item, (*path, i)) for i, (v, item) in enumerate(pairs)]


def _union(value: Any, node: inspect.UnionType, path: Path) -> Any:
    optional = any(isinstance(member, inspect.NoneType) for member in node.types)
    if optional and value in (None, "none"):
        return None
    fitting = [member for member in node.types if fits(value, member)]
    if not fitting:
        raise wrong_type(value, node, path)
    structs = [member for member in fitting if isinstance(member, inspect.StructType)]
    if len(structs) > 1:
        return _struct(value, _tagged(value, structs, path), path)
    if optional and isinstance(fitting[0], inspect.LiteralType):
        return literal(value, (*fitting[0].values, "none"), path)
    return _build(value, fitting[0], path)


def _tagged(
    value: dict[str, Any], structs: Iterable[inspect.StructType], path: Path
) -> inspect.StructType:
    by_tag = {str(node.tag): node for node in structs}
    field = next(str(node.tag_field) for node in by_tag.values())
    if field not in value:
        raise FieldError((*path, field), f"missing; one of: {', '.join(by_tag)}")
    tag = value[field]
    if not isinstance(tag, str):
        raise FieldError((*path, field), f"expected text, got {describe(tag)}")
    if tag not in by_tag:
        said = suggest(tag, list(by_tag), noun="one of")
        raise FieldError((*path, field), f"unknown {field} {tag!r}; {said}")
    return by_tag[tag]


def _struct(value: dict[str, Any], node: inspect.StructType, path: Path) -> Any:
    tag = {} if node.tag_field is None else {node.tag_field: node.tag}
    fields = {field.encode_name: field for field in node.fields}
    for key in value:
        if key not in fields and key not in tag:
            raise FieldError((*path, key), f"unknown key; {_right_key(key, node)}")
    for name, field in fields.items():
        if field.required and name not in value:
            raise _missing(field, path)
    for name, right in tag.items():
        literal(value.get(name, right), (right,), (*path, name))
    below = {
        name: _build(value[name], field.type, (*path, name))
        for name, field in fields.items()
        if name in value
    }
    try:
        return msgspec.convert(tag | below, node.cls)
    except (msgspec.ValidationError, InputError) as error:
        raise _refused(str(error), fields, path) from error


def _refused(sentence: str, fields: Collection[str], path: Path) -> FieldError:
    """A struct's own refusal; one that starts with a field's name is about that field."""
    subject = sentence.partition(" ")[0]
    return FieldError((*path, subject) if subject in fields else path, sentence)


def _missing(field: inspect.Field, path: Path) -> FieldError:
    culprit = (*path, field.encode_name)
    if isinstance(field.type, inspect.StructType):
        return FieldError(path, f"missing table [{dotted(culprit)}]")
    return FieldError(culprit, f"missing: expected {expected(field.type)}")


def _right_key(key: str, node: inspect.StructType) -> str:
    """The nearest key; failing that, one of the tables below: the right key, a level too high."""
    names = [field.encode_name for field in node.fields]
    names += [node.tag_field] if node.tag_field else []
    below = {
        sub.encode_name: f"{field.encode_name}.{sub.encode_name}"
        for field in node.fields
        if isinstance(field.type, inspect.StructType)
        for sub in field.type.fields
    }
    deeper = nearest(key, below)
    if deeper and not nearest(key, names):
        return f"did you mean '{below[deeper]}'?"
    return suggest(key, names)
