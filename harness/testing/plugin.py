"""The pytest plugin: the fixture `mock_llm`, the markers `mock_llm` and `virtual_time`.

pytest loads this at every start of whoever has the project installed, so everything else is
imported when a test asks for it.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.testing.hosts import Host
    from harness.testing.mock import MockLLM
    from mock_llm.server import MockServer

SECTION = "mock_llm findings"
_MARKERS = (
    "mock_llm(seed, any_model, ignore, scenario, **upstream): what provider mock_llm imitates",
    "virtual_time(horizon_s, seed, packages): run an `async def` test on a virtual clock",
)
_OPTIONS = ("seed", "any_model", "ignore")
_mocks: "pytest.StashKey[list[MockLLM]]" = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Make the setting known."""
    parser.addini("mock_llm_ignore", "findings on clients that are none here", type="args")


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)


@pytest.fixture
def mock_llm(request: pytest.FixtureRequest) -> "Iterator[MockLLM]":
    """A mock OpenRouter on a free port, or on the test's own virtual loop."""
    from harness.errors import InputError
    from harness.testing.hosts import InThread, OnVirtualLoop
    from harness.testing.mock import MockLLM
    from harness.testing.seen import report

    item: pytest.Item = request.node
    home: Callable[[MockServer], Host]
    home = OnVirtualLoop if item.get_closest_marker("virtual_time") else InThread
    try:
        upstream, options = _provider(item)
        mock = MockLLM(upstream, host=home, **options)
    except InputError as error:
        pytest.fail(str(error), pytrace=False)
    item.stash.setdefault(_mocks, []).append(mock)
    yield mock
    mock.close()
    findings = mock.findings()
    if findings:
        item.add_report_section("teardown", SECTION, report(findings, mock.calls))
        told = [(SECTION, f"{one.name}: {one.text}") for one in findings]
        item.user_properties.extend(told)


def _provider(item: pytest.Item) -> tuple[Any, dict[str, Any]]:
    """The upstream that the test's marker describes, and the options of the mock."""
    from harness.errors import InputError
    from harness.testing.mock import upstream_of
    from mock_llm.loader import load_upstream

    marker = item.get_closest_marker("mock_llm")
    if marker and marker.args:
        given = marker.args[0]
        raise InputError(f"mark.mock_llm: {given!r} needs a name, such as scenario='storm.toml'")
    keys = dict(marker.kwargs) if marker else {}
    options: dict[str, Any] = {n: keys.pop(n) for n in _OPTIONS if n in keys}
    options.setdefault("ignore", item.config.getini("mock_llm_ignore"))
    scenario = keys.pop("scenario", None)
    if scenario is None:
        return upstream_of(keys), options
    if keys:
        raise InputError(f"mark.mock_llm: scenario or {min(keys)}, not both")
    return load_upstream(item.path.parent / scenario), options


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is marked `virtual_time`."""
    marker = pyfuncitem.get_closest_marker("virtual_time")
    if marker is None:
        return None
    if not inspect.iscoroutinefunction(inspect.unwrap(pyfuncitem.obj)):
        why = "virtual_time needs an `async def` test that no other plugin has wrapped"
        pytest.fail(f"{why} (pytest-asyncio in its auto mode does)", pytrace=False)
    from harness.testing.virtual import VirtualTestError, run_test

    names = inspect.signature(pyfuncitem.obj).parameters
    mocks = pyfuncitem.stash.get(_mocks, None) or []
    test = partial(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in names})
    options = dict(marker.kwargs)
    own = (pyfuncitem.module.__name__.partition(".")[0], *options.pop("packages", ()))
    failure = ""
    try:
        run_test(test, mocks, name=pyfuncitem.name, packages=own, **options)
    except VirtualTestError as error:
        failure = str(error)
    if failure:  # outside of the handler, so that pytest shows it once
        pytest.fail(failure, pytrace=False)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the findings of every test, of those that passed too."""
    lines = [
        f"{report.nodeid}: {text}"
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "teardown"
        for name, text in report.user_properties
        if name == SECTION
    ]
    if lines:
        terminalreporter.section(SECTION)
        for line in lines:
            terminalreporter.line(line)
