"""The project's own source as syntax trees: what the tests of the house rules look at."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
CODE = ("harness", "loadtests", "mock_llm")
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module(NamedTuple):
    """One source file.

    Attributes:
        path: from the root of the project.
        name: dotted; a package has the name of its folder.
        text: the source.
        tree: the same, parsed.
    """

    path: Path
    name: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """How long the file is, all told."""
        return len(self.text.splitlines())

    def at(self, node: ast.AST, what: str) -> str:
        """A complaint that an editor can jump to."""
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {what}"


def module_of(path: Path, text: str) -> Module:
    """Parse a source text under the name that its path gives it."""
    parts = path.with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(path, name, text, ast.parse(text))


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """Every source file under these folders of the project."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return tuple(module_of(path.relative_to(ROOT), path.read_text("utf-8")) for path in paths)


def imports(module: Module) -> Iterator[tuple[ast.AST, str, str]]:
    """Each name that a module imports, also inside functions: (node, local name, dotted name)."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                # `import a.b` binds only `a`, yet loads `a.b`.
                yield node, one.asname or one.name, one.name
        elif isinstance(node, ast.ImportFrom):
            above = _above(module, node)
            for one in node.names:
                yield node, one.asname or one.name, f"{above}.{one.name}"


def _above(module: Module, node: ast.ImportFrom) -> str:
    """The absolute name of what a `from` names."""
    if not node.level:
        return node.module or ""
    package = module.name.split(".")
    up = node.level - (module.path.name == "__init__.py")
    above = package[: len(package) - up]
    return ".".join([*above, node.module] if node.module else above)


def own_imports(module: Module, known: frozenset[str]) -> Iterator[tuple[ast.AST, str]]:
    """The project's own modules that a module imports: the longest known part of each name."""
    for node, _, name in imports(module):
        if name.partition(".")[0] in CODE:
            while name not in known and "." in name:
                name = name.rpartition(".")[0]  # noqa: PLW2901 - a part of the same name
            yield node, name


def uses(module: Module) -> Iterator[tuple[ast.AST, str]]:
    """Every name that is read, dotted and with import aliases undone, and every import.

    With `from time import time as now`, a `now()` is found as `time.time`.
    """
    aliases = {local: name for _, local, name in imports(module)}
    yield from ((node, name) for node, _, name in imports(module))
    inner = {id(n.value) for n in ast.walk(module.tree) if isinstance(n, ast.Attribute)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in inner:
            root, dot, rest = dotted(node).partition(".")
            yield node, aliases.get(root, root) + dot + rest


def dotted(node: ast.AST) -> str:
    """`a.b.c` as it is written; what is no plain name in it becomes `?`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return "?"


def functions(module: Module) -> Iterator[Function]:
    """Every function and method, nested ones too."""
    for node in ast.walk(module.tree):
        if isinstance(node, Function):
            yield node


def length(function: Function) -> int:
    """Lines of a function, from `def` to its end, without the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is None:
        return lines
    doc = function.body[0]
    return lines - ((doc.end_lineno or doc.lineno) - doc.lineno + 1)


def code_lines(module: Module) -> int:
    """Lines that hold code: neither blank, nor a comment, nor part of a docstring."""
    tree = ast.parse(module.text)
    told: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            told.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(module.text.splitlines(), 1)
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") and number not in told
        for number, line in lines
    )


@cache
def known() -> frozenset[str]:
    """The names of the project's own modules."""
    return frozenset(module.name for module in modules(*CODE))


def unreached(found: tuple[Module, ...], roots: set[str]) -> set[str]:
    """The modules that nothing imports on any way from the roots."""
    graph = {one.name: {name for _, name in own_imports(one, known())} for one in found}
    reached: set[str] = set()
    new = set(roots)
    while new:
        reached |= new
        parents = {name.rpartition(".")[0] for name in new} - {""}
        new = {name for one in new for name in graph.get(one, ())} | parents
        new -= reached
    return set(graph) - reached
