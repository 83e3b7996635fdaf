"""Style is a test: layers, sizes, what belongs where, and what a test must have."""

import ast
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from belongs import BELONGS
from source_tree import (
    CODE,
    Module,
    code_lines,
    functions,
    imports,
    known,
    length,
    module_of,
    modules,
    own_imports,
    unreached,
    uses,
)

LONGEST_FILE = 400
LONGEST_FUNCTION = 60
MEDIAN_FILE = 150
MEDIAN_FUNCTION = 8
P90_FUNCTION = 25
LARGEST_PRODUCT = 31_000  # lines of code: a docstring that says more shall cost nothing

# From the bottom to the top: a layer imports from itself and from those before it.
# `testing` is a top beside `cli`: it is in nobody's use but the user's, and needs the engines only.
LAYERS = ("core", "pipeline", "engines", "testing", "report", "experiments", "cli")
CORE = {"scenario", "corpus", "records", "metrics", "attribution", "bottlenecks", "invariants"}
CORE |= {"recovery"}
CORE |= {"errors", "files", "places", "client_findings", "workload", "statistics", "theory"}
LEAVES = ("mock_llm.rng", "mock_llm.distributions", "mock_llm.tokens", "mock_llm.errors")
ENTRY_POINTS = {"harness.cli.main": "[project.scripts]", "mock_llm.__main__": "python -m mock_llm"}
ENTRY_POINTS |= {"harness.testing.plugin": "[project.entry-points.pytest11]"}
ENTRY_POINTS |= {"loadtests.users": "locust -f loadtests/users.py"}
ENTRY_POINTS |= {"harness.experiments.flights": "the scripts in scenarios/"}

SWALLOWS = {
    "harness.pipeline.dispatch": "a job that is stopped has cancelled itself",
    "harness.engines.target": "a target that cancels itself has only failed",
    "harness.pipeline.race": "raises it when its calls have ended",
    "mock_llm.eager": "hands it on to the work, which is what is cancelled",
}
GATHERS = {"mock_llm.connection": "handlers that were cancelled a line before"}

CANCELLING = {"BaseException", "asyncio.CancelledError", "concurrent.futures.CancelledError"}
UNVERIFIED = {"verify", "verify_ssl", "ssl", "check_hostname"}
SECOND_SENTENCE = re.compile(r"""[.!?]["'`)]*\s+[A-Z]""")


def inside(name: str, places: tuple[str, ...] | dict[str, str]) -> bool:
    """Whether a dotted name is one of the places, or under one."""
    return any(name == place or name.startswith(place + ".") for place in places)


def layer(name: str) -> str:
    """The layer of a module of harness; a new one must be given a place here first."""
    part = name.split(".")[1] if "." in name else "errors"
    found = "core" if part in CORE else part
    assert found in LAYERS, f"{name} is in no layer: name it in CORE or LAYERS of {__file__}"
    return found


def upward(module: Module) -> Iterator[str]:
    """Imports that do not point down."""
    mock = inside(module.name, ("mock_llm",))
    top = inside(module.name, ("loadtests",))  # in nobody's use, and above all but the command line
    mine = None if mock else "experiments" if top else layer(module.name)
    leaf = next((one for one in LEAVES if inside(module.name, (one,))), None)
    for node, target in own_imports(module, known()):
        ours = inside(target, ("harness",))
        if mock and ours:
            yield module.at(node, f"mock_llm knows nothing of {target}")
        elif leaf and not inside(target, LEAVES):
            yield module.at(node, f"{leaf} is a leaf, and {target} is none")
        elif mine == "pipeline" and not ours:
            yield module.at(node, f"the pipeline knows only HTTP, not {target}")
        elif mine and ours and LAYERS.index(layer(target)) > LAYERS.index(mine):
            yield module.at(node, f"{mine} is below {target}")


def misplaced(module: Module) -> Iterator[str]:
    """Libraries, calls and names outside the places where they belong."""
    for node, name in uses(module):
        rule = max((one for one in BELONGS if inside(name, (one,))), key=len, default=None)
        if rule is not None and not inside(module.name, BELONGS[rule]):
            places = ", ".join(BELONGS[rule]) or "nowhere"
            yield module.at(node, f"{name} belongs in: {places}")
        top = name.partition(".")[0]
        foreign = top not in sys.stdlib_module_names and top not in CODE
        if isinstance(node, ast.Import | ast.ImportFrom) and rule is None and foreign:
            yield module.at(node, f"{name}: give the library its place in BELONGS")


def swallowing(module: Module) -> Iterator[str]:
    """Handlers that take a cancellation and keep it."""
    resolved = {id(node): name for node, name in uses(module)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            caught = _flat(node.type)
            again = isinstance(node.body[-1], ast.Raise) and _same(node.body[-1], node.name)
        elif isinstance(node, ast.Call) and resolved.get(id(node.func)) == "contextlib.suppress":
            caught, again = node.args, False
        else:
            continue
        greedy = not caught or CANCELLING & {resolved.get(id(one), "") for one in caught}
        if greedy and not again and not inside(module.name, SWALLOWS):
            yield module.at(node, "catches a cancellation and does not end with `raise`")


def _flat(caught: ast.expr | None) -> list[ast.expr]:
    """What an `except` names; nothing when it is bare."""
    if caught is None:
        return []
    return caught.elts if isinstance(caught, ast.Tuple) else [caught]


def _same(node: ast.Raise, name: str | None) -> bool:
    return node.exc is None or (isinstance(node.exc, ast.Name) and node.exc.id == name)


def gathering(module: Module) -> Iterator[str]:
    """Calls of `gather` that make results of cancellations."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and not inside(module.name, GATHERS):
            keys = {(key.arg, getattr(key.value, "value", None)) for key in node.keywords}
            if ("return_exceptions", True) in keys:
                yield module.at(node, "return_exceptions=True hides a cancellation")


def unverified(module: Module) -> Iterator[str]:
    """Ways to switch the check of certificates off."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.keyword) and node.arg in UNVERIFIED:
            value: ast.AST = node.value
        elif isinstance(node, ast.Assign) and _attributes(node) & UNVERIFIED:
            value = node.value
        else:
            continue
        if isinstance(value, ast.Constant) and value.value is False:
            yield module.at(value, "certificates are always verified")


def _attributes(node: ast.Assign) -> set[str]:
    return {target.attr for target in node.targets if isinstance(target, ast.Attribute)}


def oversized(module: Module) -> Iterator[str]:
    """A file or a function that is too long."""
    if module.lines > LONGEST_FILE:
        yield f"{module.path}:{module.lines}: file of {module.lines} lines, over {LONGEST_FILE}"
    for one in functions(module):
        if length(one) > LONGEST_FUNCTION:
            size = f"{length(one)} lines, over {LONGEST_FUNCTION}"
            yield module.at(one, f"{one.name} has {size}")


def careless_tests(module: Module) -> Iterator[str]:
    """Tests that do not say in one sentence what they show, or show nothing."""
    for test in functions(module):
        if not test.name.startswith("test_") or not module.path.name.startswith("test_"):
            continue
        said = (ast.get_docstring(test) or "").rstrip("\"'`)")
        if not said.endswith((".", "!", "?")) or "\n\n" in said or SECOND_SENTENCE.search(said):
            yield module.at(test, f"{test.name} wants a docstring of one sentence")
        if not any(_asserts(node) for node in ast.walk(test)):
            yield module.at(test, f"{test.name} asserts nothing")


def _asserts(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        return True
    called = node.func if isinstance(node, ast.Call) else None
    name = getattr(called, "attr", getattr(called, "id", ""))
    return name in {"raises", "warns"} or name.startswith(("assert_", "check_"))


def check_all(rule: Callable[[Module], Iterator[str]], *folders: str) -> None:
    """Fail with every complaint, one a line."""
    found = [line for module in modules(*folders) for line in rule(module)]
    assert not found, "\n" + "\n".join(found)


def test_imports_point_down_only() -> None:
    """Layers import from below, the pipeline knows only HTTP, the mock knows nothing of harness."""
    check_all(upward, *CODE)


def test_no_import_goes_in_a_circle() -> None:
    """There is an order in which every module comes after all that it imports."""
    graph = {
        one.name: {name for _, name in own_imports(one, known())} - {one.name}
        for one in modules(*CODE)
    }
    circle: list[str] = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert circle == []


def test_everything_is_where_it_belongs() -> None:
    """Libraries, clocks, randomness, printing and the environment stay in their named places."""
    check_all(misplaced, *CODE)


def test_cancellations_go_through() -> None:
    """No handler keeps a cancellation for itself, and no gather turns one into a result."""
    check_all(swallowing, *CODE)
    check_all(gathering, *CODE)


def test_certificates_are_verified() -> None:
    """There is no switch that turns the check of certificates off, not even in tests."""
    check_all(unverified, *CODE, "tests")


def test_no_file_or_function_is_too_long() -> None:
    """Files end by 400 lines and functions by 60, tests like all the rest."""
    check_all(oversized, *CODE, "tests")


def test_code_is_small() -> None:
    """The usual file and function are short, and the whole product stays within its size."""
    files = [module.lines for module in modules(*CODE)]
    sizes = [length(one) for module in modules(*CODE) for one in functions(module)]
    assert statistics.median(files) <= MEDIAN_FILE
    assert statistics.median(sizes) <= MEDIAN_FUNCTION
    assert statistics.quantiles(sizes, n=10)[-1] <= P90_FUNCTION
    assert sum(map(code_lines, modules(*CODE))) < LARGEST_PRODUCT


def test_no_module_is_dead() -> None:
    """Every module is reached by imports from an entry point."""
    assert unreached(modules(*CODE), set(ENTRY_POINTS)) == set()


def test_no_test_helper_is_dead() -> None:
    """Every file beside the tests is imported by one of them, or is a script."""
    found = modules("tests")
    imported = {name for one in found for _, _, name in imports(one)}
    idle = [
        str(one.path)
        for one in found
        if not one.path.name.startswith("test_")
        and one.path.name != "conftest.py"
        and '__name__ == "__main__"' not in one.text
        and not any(inside(name, (one.path.stem,)) for name in imported)
    ]
    assert idle == []


def test_every_test_says_and_shows_something() -> None:
    """A test has a docstring of one sentence, and asserts."""
    check_all(careless_tests, "tests")


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (upward, "mock_llm/wire.py", "import harness.records"),
        (upward, "mock_llm/rng.py", "def f():\n    from mock_llm import wire"),
        (upward, "mock_llm/distributions/normal.py", "from ..plan import Plan"),
        (upward, "harness/pipeline/job.py", "from mock_llm.rng import Keyed"),
        (upward, "harness/pipeline/job.py", "from harness.engines import base"),
        (upward, "harness/records.py", "from harness import pipeline"),
        (upward, "harness/engines/live.py", "import harness.report.table as table"),
        (misplaced, "mock_llm/plan.py", "import time as t\nt.time()"),
        (misplaced, "mock_llm/plan.py", "import random"),
        (misplaced, "mock_llm/distributions/tailed.py", "from scipy.stats import gamma"),
        (misplaced, "harness/metrics.py", "import numpy as np\nnp.random.default_rng(1)"),
        (misplaced, "harness/metrics.py", "from datetime import datetime\ndatetime.now()"),
        (misplaced, "harness/metrics.py", "import simpy"),
        (misplaced, "harness/report/text.py", "print('here')"),
        (misplaced, "harness/report/text.py", "import os\nos.environ['HOME']"),
        (misplaced, "mock_llm/connection.py", "import ssl\nssl.CERT_NONE"),
        (swallowing, "mock_llm/server.py", "try:\n    f()\nexcept:\n    pass"),
        (swallowing, "mock_llm/server.py", "try:\n    f()\nexcept BaseException as e:\n    g(e)"),
        (
            swallowing,
            "mock_llm/server.py",
            "from asyncio import CancelledError as C\ntry:\n    f()\nexcept (OSError, C):\n    g()",
        ),
        (swallowing, "a.py", "import asyncio as a, contextlib as c\nc.suppress(a.CancelledError)"),
        (gathering, "mock_llm/server.py", "gather(f(), return_exceptions=True)"),
        (unverified, "tests/test_x.py", "get(url, verify=False)"),
        (unverified, "tests/test_x.py", "context.check_hostname = False"),
        (oversized, "mock_llm/server.py", "a = 1\n" * (LONGEST_FILE + 1)),
        (oversized, "mock_llm/server.py", "def f():\n" + "    a = 1\n" * LONGEST_FUNCTION),
        (careless_tests, "tests/test_x.py", "def test_x():\n    assert f()"),
        (careless_tests, "tests/test_x.py", "def test_x():\n    '''One. Two.'''\n    assert f()"),
        (careless_tests, "tests/test_x.py", "def test_x():\n    '''It works.'''\n    f()"),
    ],
)
def test_every_rule_finds_its_offence(
    rule: Callable[[Module], Iterator[str]], path: str, text: str
) -> None:
    """Each rule complains of an offence against it, and says in which file."""
    found = list(rule(module_of(Path(path), text)))
    assert found != []
    assert all(line.startswith(f"{path}:") for line in found)
