"""What a test gets wrong of the pytest plugin: one clear line, shown where the mistake is."""

import pytest
from source_tree import ROOT

TESTS = """
import pytest

def test_kind(mock_llm):
    mock_llm.fault("hangs")

def test_rate(mock_llm):
    mock_llm.hang(rate=2)

def test_key(mock_llm):
    mock_llm.settings(thrott=3)

@pytest.mark.mock_llm("storm.toml")
def test_no_name(mock_llm):
    pass

@pytest.mark.mock_llm(scenario="storm.toml")
def test_no_file(mock_llm):
    pass

@pytest.mark.mock_llm(ignore=["nothing"])
def test_no_finding(mock_llm):
    pass
"""
LINES = [
    "*fault 'hangs': kind: unknown kind 'hangs'; one of: *",
    "*fault 'hang_before_headers': rate: must be <= 1, got 2*",
    "*settings: thrott: unknown key; did you mean 'throttle'?*",
    "*mark.mock_llm: 'storm.toml' needs a name, such as scenario='storm.toml'*",
    "*storm.toml: no such file*",
    "*there is no finding 'nothing': there are: *",
]


def test_mistakes_are_one_line(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake is told with the test's own lines, and none of the plugin's."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.syspath_prepend(str(ROOT))
    pytester.makepyfile(TESTS)
    options = ("-p", "harness.testing.plugin", "-p", "no:cacheprovider")
    result = pytester.runpytest_inprocess(
        *options, "-Werror", "-Wignore::pytest.PytestAssertRewriteWarning"
    )
    result.assert_outcomes(failed=3, errors=3)
    for line in LINES:
        result.stdout.fnmatch_lines([line])
    for inner in ("*harness/testing/*", "*mock_llm/strict/*"):
        result.stdout.no_fnmatch_line(inner)
