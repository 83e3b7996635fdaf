"""JSON Schema as frozen structs: the keywords that are understood, and what `$ref` leads to."""

from collections.abc import Iterator
from functools import cached_property, lru_cache
from math import inf
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from msgspec import UNSET, Meta

Size = Annotated[int, Meta(ge=0, le=100_000)]
Kind = str | tuple[str, ...]
KINDS = ("object", "array", "string", "number", "integer", "boolean", "null")
_RENAMED = {
    "ref": "$ref",
    "any_of": "anyOf",
    "one_of": "oneOf",
    "all_of": "allOf",
    "not_": "not",
    "if_": "if",
}


def _renamed(name: str) -> str:
    first, *rest = name.split("_")
    return _RENAMED.get(name) or first + "".join(map(str.capitalize, rest))


class Unsatisfiable(Exception):  # noqa: N818 - it is an answer, though no instance
    """No instance can be made of a schema; the text says of which part, and why."""


class Schema(msgspec.Struct, frozen=True, kw_only=True, rename=_renamed):
    """One schema; a keyword that is not here is an annotation, or of no consequence."""

    ref: str | None = None
    type: Kind | None = None
    enum: tuple[Any, ...] | None = None
    const: Any = UNSET
    any_of: "tuple[Schema | bool, ...] | None" = None
    one_of: "tuple[Schema | bool, ...] | None" = None
    all_of: "tuple[Schema | bool, ...]" = ()
    properties: "dict[str, Schema | bool]" = {}
    required: tuple[str, ...] = ()
    additional_properties: "Schema | bool" = True
    min_properties: Size = 0
    max_properties: int | None = None
    items: "Schema | bool | tuple[Schema | bool, ...]" = True
    prefix_items: "tuple[Schema | bool, ...]" = ()
    min_items: Size = 0
    max_items: int | None = None
    unique_items: bool = False
    minimum: int | float | None = None
    maximum: int | float | None = None
    exclusive_minimum: int | float | None = None
    exclusive_maximum: int | float | None = None
    multiple_of: int | float | None = None
    min_length: Size = 0
    max_length: int | None = None
    pattern: str | None = None
    format: str | None = None
    # Not made, so not promised: whoever sends one of these is told.
    not_: Any = UNSET
    if_: Any = UNSET
    contains: Any = UNSET
    pattern_properties: Any = UNSET
    property_names: Any = UNSET
    dependencies: Any = UNSET
    dependent_required: Any = UNSET
    dependent_schemas: Any = UNSET


Node = Schema | bool
_REFUSED = Schema.__struct_fields__[Schema.__struct_fields__.index("not_") :]


class Document:
    """A whole schema, in which references lead somewhere.

    Args:
        tree: the decoded JSON.
        raw: that JSON, by which another process can make the same document.

    Raises:
        Unsatisfiable: a keyword has a value of the wrong type, or is one that is not made.
    """

    def __init__(self, tree: Any, raw: bytes = b"") -> None:
        self._tree, self.raw = tree, raw
        self._found: dict[str, Node] = {}
        self.root = self.at("#")

    def at(self, ref: str) -> Node:
        """Return what a reference inside the document names.

        Raises:
            Unsatisfiable: it names nothing, or something elsewhere.
        """
        if ref not in self._found:
            self._found[ref] = _converted(self._pointed(ref), ref)
        return self._found[ref]

    def _pointed(self, ref: str) -> Any:
        here = self._tree
        try:
            for step in ref.removeprefix("#").split("/")[1:]:
                name = unquote(step).replace("~1", "/").replace("~0", "~")
                here = here[int(name)] if isinstance(here, list) else here[name]
        except (LookupError, TypeError, ValueError):
            here = None
        if here is None or ref[:1] != "#":
            raise Unsatisfiable(f"{ref} leads nowhere in this schema")
        return here

    def height(self, node: Node) -> float:
        """Return how many levels the smallest instance has; infinite when there is no end."""
        if isinstance(node, bool):
            return 0 if node else inf
        known = self._heights.get(id(node))
        return self._height(node, self._heights) if known is None else known

    @cached_property
    def _heights(self) -> dict[int, float]:
        nodes = list(_reached(self, self.root))
        heights = {id(node): inf for node in nodes}
        changed = True
        while changed:
            changed = False
            for node in nodes:
                if (height := self._height(node, heights)) < heights[id(node)]:
                    heights[id(node)] = height
                    changed = True
        return heights

    def _height(self, node: Schema, known: dict[int, float]) -> float:
        def of(part: Node) -> float:
            if isinstance(part, bool):
                return 0 if part else inf
            found = known.get(id(part))
            return self._height(part, known) if found is None else found

        needed = [of(self.at(node.ref))] if node.ref else []
        needed += [of(part) for part in node.all_of]
        for group in (node.any_of, node.one_of):
            needed += [] if group is None else [min(map(of, group), default=inf)]
        found = set(kinds(node))
        if found - {"object", "array"} or node.enum is not None or node.const is not UNSET:
            return max(needed, default=0)
        if "object" in found:
            held = [node.properties.get(name, node.additional_properties) for name in node.required]
            needed += [1 + of(part) for part in held]
        if "array" in found and node.min_items:
            needed += [1 + of(part) for part in first_items(node, node.min_items)]
        return max(needed, default=0)


def kinds(schema: Schema) -> tuple[str, ...]:
    """Return the types to try, best first; where none is named, what the keywords are about."""
    if schema.type is not None:
        named = (schema.type,) if isinstance(schema.type, str) else schema.type
        return tuple(sorted(named, key=lambda kind: kind == "null"))
    if schema.properties or schema.required or schema.min_properties:
        return ("object",)
    if schema.additional_properties is not True:
        return ("object",)
    if schema.items is not True or schema.prefix_items or schema.min_items:
        return ("array",)
    limits = (schema.minimum, schema.maximum, schema.exclusive_minimum, schema.exclusive_maximum)
    if schema.multiple_of is not None or any(one is not None for one in limits):
        return ("number",)
    return ("string",)


def first_items(schema: Schema, count: int) -> tuple[Node, ...]:
    """Return the schemas of an array's first items; the last stands for all that follow."""
    before = schema.prefix_items
    if isinstance(schema.items, tuple):
        return schema.items[:count]
    return before[:count] if count <= len(before) else (*before, schema.items)


def _reached(document: Document, root: Node) -> Iterator[Schema]:
    new, seen = [root], set[int]()
    while new:
        node = new.pop()
        if isinstance(node, bool) or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        new += [document.at(node.ref)] if node.ref else []
        items = node.items if isinstance(node.items, tuple) else (node.items,)
        new += [*node.all_of, *(node.any_of or ()), *(node.one_of or ()), *items]
        new += [*node.properties.values(), *node.prefix_items, node.additional_properties]


def _converted(tree: Any, where: str) -> Node:
    try:
        node: Node = msgspec.convert(tree, Schema | bool)
    except msgspec.ValidationError as error:
        raise Unsatisfiable(f"no JSON Schema at {where}: {error}") from error
    return node


def refuse_unknown(schema: Schema, where: str) -> None:
    """Complain of a keyword that is not made.

    Raises:
        Unsatisfiable: with its name.
    """
    for name in _REFUSED:
        if getattr(schema, name) is not UNSET:
            raise Unsatisfiable(f"the keyword `{_renamed(name)}` at {where} is not imitated")
    for kind in (schema.type,) if isinstance(schema.type, str) else schema.type or ():
        if kind not in KINDS:
            raise Unsatisfiable(f"no JSON Schema at {where}: there is no type {kind!r}")


@lru_cache(maxsize=256)
def document(raw: bytes) -> Document:
    """Return the schema in some JSON; the same bytes give the same object.

    Raises:
        Unsatisfiable: see `Document`.
    """
    try:
        return Document(msgspec.json.decode(raw), raw)
    except (RecursionError, UnicodeDecodeError) as error:
        raise Unsatisfiable("no JSON Schema: nested too deeply, or no text") from error
