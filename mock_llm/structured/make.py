"""Makes an instance of a schema: a function of the schema and of keyed uniforms.

Theory of operation. Every part of the instance has a path, and its uniforms are those of the path,
so that nothing depends on the order of work. A part is made of one way to read its schema: one
branch of every `anyOf` and `oneOf`, all of `allOf`, merged (`alternatives`). What was made is held
against the schema as it stood, and the next way is tried when it is no instance. Below `_DEEP`
levels only what must be there is made, and the branch with the lowest instance comes first: so a
recursive schema ends if it can end at all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from math import inf
from typing import Any

from mock_llm.structured.matches import item_schema, matches
from mock_llm.structured.merge import merged, plain
from mock_llm.structured.numbers import number
from mock_llm.structured.schema import Document, Node, Schema, Unsatisfiable, kinds, refuse_unknown
from mock_llm.structured.strings import string

Uniform = Callable[[str], float]
Hints = Mapping[str, Sequence[Any]]
"""What is the right value, by the name of a property, in the ways in which it can be said."""

_DEEP = 3
_WAYS = 64
_LARGEST = 10_000
_SALTS = 50


def instance(document: Document, uniform: Uniform, hints: Hints | None = None) -> Any:
    """Return an instance.

    Args:
        document: the schema.
        uniform: path to a uniform in (0, 1).
        hints: see `Hints`; the first that is an instance stands.

    Raises:
        Unsatisfiable: none could be made.
    """
    maker = _Maker(document, uniform, {} if hints is None else hints)
    try:
        return maker.made(document.root, "$", 0)
    except (RecursionError, OverflowError) as error:
        raise Unsatisfiable("the schema refers to itself without end, or is too deep") from error


class _Maker:
    def __init__(self, document: Document, uniform: Uniform, hints: Hints) -> None:
        self._document, self._uniform, self._hints = document, uniform, hints
        self._parts = 0

    def made(self, node: Node, path: str, depth: int) -> Any:
        self._parts += 1
        if self._parts > _LARGEST:
            raise Unsatisfiable(f"an instance would have over {_LARGEST} parts")
        why = f"nothing is allowed at {path}"
        for schema in islice(self.alternatives(node, path, depth), _WAYS):
            refuse_unknown(schema, path)
            for make in self._ways(schema):
                try:
                    value = make(schema, path, depth)
                except Unsatisfiable as error:
                    why = str(error)
                    continue
                if matches(self._document, node, value):
                    return value
                why = f"no instance was found at {path}"
        raise Unsatisfiable(why)

    def alternatives(self, node: Node, path: str, depth: int, level: int = 0) -> Iterator[Schema]:
        """Every way to read a schema: without references and combiners."""
        if isinstance(node, bool):
            yield from [Schema()] if node else []
            return
        if level > _LEVELS:
            return
        groups: list[Sequence[Node]] = [[self._document.at(node.ref)]] if node.ref else []
        groups += [[part] for part in node.all_of]
        groups += [group for group in (node.any_of, node.one_of) if group is not None]
        yield from self._joined(plain(node), groups, path, depth, level + 1)

    def _joined(
        self, own: Schema, groups: list[Sequence[Node]], path: str, depth: int, level: int
    ) -> Iterator[Schema]:
        if not groups:
            yield own
            return
        for branch in self._ordered(groups[0], f"{path}|{level}|{len(groups)}", depth):
            for schema in self.alternatives(branch, path, depth, level):
                try:
                    both = merged(own, schema)
                except Unsatisfiable:
                    continue
                yield from self._joined(both, groups[1:], path, depth, level)

    def _ordered(self, group: Sequence[Node], path: str, depth: int) -> Sequence[Node]:
        """The branches that end: one that is drawn first, null last; deep down the lowest first."""
        if len(group) == 1:
            return group
        heights = {index: self._document.height(branch) for index, branch in enumerate(group)}
        ending = [branch for index, branch in enumerate(group) if heights[index] < inf]
        if depth >= _DEEP:
            return sorted(ending, key=self._document.height)
        first = int(self._uniform(path) * len(ending))
        return sorted([*ending[first:], *ending[:first]], key=_is_null)

    def _ways(self, schema: Schema) -> Iterator[Callable[[Schema, str, int], Any]]:
        if schema.enum is not None:
            yield self._one_of
            return
        for kind in kinds(schema):
            yield {"object": self._object, "array": self._array}.get(kind) or _scalar(
                kind, self._uniform
            )

    def _one_of(self, schema: Schema, path: str, _depth: int) -> Any:
        values = schema.enum or ()
        first = int(self._uniform(path) * len(values))
        for value in (*values[first:], *values[:first]):
            if matches(self._document, schema, value):
                return value
        raise Unsatisfiable(f"no value of the enum at {path} is allowed")

    def _object(self, schema: Schema, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, node in self._wanted(schema, depth):
            try:
                found[name] = self._property(name, node, f"{path}.{name}", depth + 1)
            except Unsatisfiable:
                if name in schema.required:
                    raise
        most = len(found) if schema.max_properties is None else schema.max_properties
        spare = [name for name in found if name not in schema.required]
        for name in spare[::-1][: max(len(found) - most, 0)]:
            del found[name]
        return found

    def _wanted(self, schema: Schema, depth: int) -> Iterator[tuple[str, Node]]:
        """Properties to make: the required ones, and near the top all that have an end."""
        more, count = schema.additional_properties, 0
        names = list(dict.fromkeys((*schema.properties, *schema.required)))
        shallow = depth < _DEEP
        for name in names:
            node = schema.properties.get(name, more)
            short = count + len(schema.required) < schema.min_properties
            if name in schema.required or short or (shallow and self._document.height(node) < inf):
                count += name not in schema.required
                yield name, node
        extra = 2 if shallow and isinstance(more, Schema) and not names else 0
        for number_ in range(max(extra, schema.min_properties - len(names))):
            yield f"key_{number_ + 1}", more

    def _property(self, name: str, node: Node, path: str, depth: int) -> Any:
        for value in self._hints.get(name.casefold(), ()):
            if matches(self._document, node, value):
                return value
        return self.made(node, path, depth)

    def _array(self, schema: Schema, path: str, depth: int) -> list[Any]:
        least = schema.min_items
        most = least + 2 if schema.max_items is None else schema.max_items
        wanted = least
        if depth < _DEEP:
            wanted = min(max(least, 1 + int(2 * self._uniform(f"{path}#"))), most)
        found: list[Any] = []
        for index in range(wanted):
            try:
                found.append(self._item(schema, found, f"{path}[{index}]", depth + 1))
            except Unsatisfiable:
                if index < least:
                    raise
                break
        return found

    def _item(self, schema: Schema, before: list[Any], path: str, depth: int) -> Any:
        node = item_schema(schema, len(before))
        if not schema.unique_items:
            return self.made(node, path, depth)
        alone = Schema(items=node, unique_items=True)
        for salt in range(_SALTS):
            value = self.made(node, f"{path}~{salt}" if salt else path, depth)
            if matches(self._document, alone, [*before, value]):
                return value
        raise Unsatisfiable(f"the items at {path} cannot all differ")


_LEVELS = 24


def _is_null(node: Node) -> bool:
    return isinstance(node, Schema) and (node.type == "null" or node.const is None)


def _scalar(kind: str, uniform: Uniform) -> Callable[[Schema, str, int], Any]:
    if kind == "string":
        return lambda schema, path, _: string(schema, path, uniform)
    if kind == "boolean":
        return lambda _schema, path, _depth: uniform(path) < 0.5
    if kind == "null":
        return lambda *_: None
    return lambda schema, path, _: number(schema, uniform(path), whole=kind == "integer")
