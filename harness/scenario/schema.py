"""The JSON Schema of scenario files, for editors: completion, help, and mistakes as they are typed.

Made of the structs that read the files, so that it says what they say: types, bounds and words from
the fields, help from the docstrings. Three things JSON Schema has to be told: "none" stands for an
absent limit; a variant's tables change only what they name, so that nothing is required in them
(but a table that names its `kind` is a whole one); and `[slo]` has metrics for keys.
"""

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.inspect import StructType, type_info

from harness.scenario.model import Scenario
from harness.scenario.slo import KNOWN_METRICS
from mock_llm.distributions import Distribution
from mock_llm.faults import Fault

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/"
_CHANGED = "Changed"
_WORDS = {"None": '"none"', "True": "true", "False": "false"}  # as TOML has them
_ATTRIBUTE = re.compile(r"^(\w+): (.*)$")
_BOUND = {"type": "string", "pattern": r"^\s*(<=|>=|==|<|>)\s*[-+.\w]+\s*$"}


def scenario_schema() -> Schema:
    """Return the schema of a scenario file."""
    kinds = {"Distribution": Distribution, "Fault": Fault}
    (root, *unions), parts = msgspec.json.schema_components(
        [Scenario, *kinds.values()], ref_template=_REF + "{name}"
    )
    shared = dict(zip(kinds, unions, strict=True))
    classes = {one.__name__: one for one in _structs(type_info(Scenario), set())}
    whole = {name: _helped(_table(part, shared), classes[name]) for name, part in parts.items()}
    whole |= {name: _table(part, {}) for name, part in shared.items()}
    changed = {_CHANGED + name: _partial(part) for name, part in whole.items()}
    for table in ("workload", "upstream", "pipeline"):
        whole["Variant"]["properties"][table] = {"$ref": f"{_REF}{_CHANGED}{table.title()}"}
    for name in ("Scenario", "Variant"):
        whole[name]["properties"]["slo"] |= _slo()
    return {"$schema": _DIALECT, **root, "$defs": _reached(root, whole | changed)}


def scenario_schema_json() -> str:
    """Return the schema as text, a definition to a line, which keeps changes readable."""
    top = scenario_schema()
    parts = [f'"{name}": {json.dumps(part)}' for name, part in top.pop("$defs").items()]
    first = json.dumps(top).removesuffix("}")
    return first + ', "$defs": {\n' + ",\n".join(parts) + "\n}}\n"


def _structs(node: Any, seen: set[type]) -> Iterator[type]:
    """Every struct below a type, itself included."""
    if isinstance(node, StructType):
        if node.cls in seen:
            return
        seen.add(node.cls)
        yield node.cls
        below: Any = [field.type for field in node.fields]
    else:
        single = [
            getattr(node, name) for name in ("item_type", "value_type") if hasattr(node, name)
        ]
        below = [*single, *getattr(node, "types", ()), *getattr(node, "item_types", ())]
    for one in below:
        yield from _structs(one, seen)


def _table(node: Any, shared: dict[str, Schema]) -> Any:
    """A schema as msgspec has it, with unions by name, "none" for null, and plain defaults."""
    if isinstance(node, list):
        return [_table(one, shared) for one in node]
    if not isinstance(node, dict):
        return node
    for name, union in shared.items():
        if all(node.get(key) == value for key, value in union.items()):
            rest = {key: value for key, value in node.items() if key not in union}
            return _table({"$ref": _REF + name, **rest}, {})
    if node == {"type": "null"}:
        return {"enum": ["none", None]}
    made = {key: _table(one, shared) for key, one in node.items() if key != "discriminator"}
    made.pop("title", None)
    if None in made.get("enum", ()):
        made["enum"] = [*dict.fromkeys(["none", *made["enum"]])]
    if "default" in node:
        del made["default"]
        if not isinstance(node["default"], dict | list):
            made["default"] = "none" if node["default"] is None else node["default"]
    return made


def _helped(table: Schema, cls: type) -> Schema:
    """A struct's schema with its docstring's words where an editor shows them."""
    table["description"] = _joined(_sections(cls)[0])
    for one in reversed(cls.__mro__):
        for name, text in _attributes(_sections(one)[1]).items():
            if name in table["properties"]:
                table["properties"][name]["description"] = re.sub(
                    r"\b(None|True|False)\b", lambda found: _WORDS[found[0]], text
                )
    return table


def _sections(cls: type) -> tuple[str, str]:
    """A docstring without, and only, its list of attributes."""
    told, _, attributes = (inspect.getdoc(cls) or "").partition("\nAttributes:\n")
    return told, attributes


def _attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(text).splitlines():
        if start := _ATTRIBUTE.match(line):
            name, found[start[1]] = start[1], start[2]
        elif name:
            found[name] += " " + line.strip()
    return found


def _joined(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n")).strip()


def _slo() -> Schema:
    # `latency_s.p95 = ...` without quotes is a table in a table.
    return {
        "properties": dict.fromkeys(KNOWN_METRICS, _BOUND),
        "additionalProperties": {"type": "object"},
    }


def _partial(node: Any) -> Any:
    """The same for a table that is laid over another one."""
    if isinstance(node, list):
        return [_partial(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {key: _partial(one) for key, one in node.items() if key != "default"}
    if "properties" in made:
        made.pop("description", None)
    required = made.pop("required", [])
    if isinstance(required, list) and "kind" in required and len(required) > 1:
        made["dependentRequired"] = {"kind": [name for name in required if name != "kind"]}
    elif not isinstance(required, list):
        made["required"] = required  # a property of that name
    if "$ref" in made:
        made["$ref"] = made["$ref"].replace(_REF, _REF + _CHANGED)
    return made


def _reached(root: Schema, defs: dict[str, Schema]) -> dict[str, Schema]:
    """The definitions that are used."""
    todo, found = [root], {}
    while todo:
        for ref in re.findall(rf"'{re.escape(_REF)}(\w+)'", str(todo.pop())):
            if ref not in found:
                found[ref] = defs[ref]
                todo.append(defs[ref])
    return dict(sorted(found.items()))
