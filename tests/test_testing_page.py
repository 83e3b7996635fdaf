"""The page on testing: its examples are run as they stand, the bad ones and their cures."""

import os
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from source_tree import ROOT

from harness.client_findings import FINDINGS

PAGE = (ROOT / "docs" / "testing.md").read_text("utf-8")
MANUAL, EXAMPLES = PAGE.split("## Findings\n")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OUTCOME = re.compile(r"^(PASSED|FAILED) (\w+)\.py::", re.MULTILINE)
FOUND = re.compile(r"^(\w+)\.py::\w+: (.*)$", re.MULTILINE)


class Examples(NamedTuple):
    """What became of the page's tests: by file, and everything as it was printed."""

    outcomes: dict[str, str]
    findings: dict[str, list[str]]
    printed: str


def sections() -> dict[str, list[tuple[str, str]]]:
    """The blocks under the heading of each finding, (language, text)."""
    parts = re.split(r"^### (\w+)\n", EXAMPLES, flags=re.MULTILINE)
    return {name: BLOCK.findall(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def python(text: str) -> list[str]:
    """The Python blocks of a text."""
    return [code for language, code in BLOCK.findall(text) if language == "python"]


@cache
def examples() -> Examples:
    """Run every example in one process of pytest that has the plugin."""
    with TemporaryDirectory() as folder:
        files = {"ask": next(code for code in python(EXAMPLES) if code.startswith("# ask.py"))}
        files |= {f"test_page_{number}": code for number, code in enumerate(python(MANUAL))}
        for name, ((_, bad), _, (_, cured)) in sections().items():
            files |= {f"test_bad_{name}": bad, f"test_cured_{name}": cured}
        for name, code in files.items():
            (Path(folder) / f"{name}.py").write_text(code, "utf-8")
        done = subprocess.run(
            [*(sys.executable, "-m", "pytest", "-p", "harness.testing.plugin"), "-rpf"],
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, told in FOUND.findall(done.stdout):
        found[name].append(told)
    outcomes = {name: outcome for outcome, name in OUTCOME.findall(done.stdout)}
    return Examples(outcomes, found, done.stdout)


def test_every_finding_has_its_example() -> None:
    """The page has a section for each finding, in the order of their gravity."""
    assert list(sections()) == list(FINDINGS)


@pytest.mark.parametrize("name", FINDINGS)
def test_bad_client_is_found(name: str) -> None:
    """The bad client of the page gets exactly the finding that stands below it."""
    told = sections()[name][1][1].strip()
    assert examples().outcomes[f"test_bad_{name}"] == "PASSED"
    assert examples().findings[f"test_bad_{name}"] == [told]
    assert told.startswith(f"{name}: ")


@pytest.mark.parametrize("name", FINDINGS)
def test_cured_client_is_sound(name: str) -> None:
    """The cured client of the page passes, without any finding."""
    assert examples().outcomes[f"test_cured_{name}"] == "PASSED"
    assert examples().findings[f"test_cured_{name}"] == []


def test_manual_examples_do_as_they_say() -> None:
    """The other examples pass, but for the one that must fail, with the words that are shown."""
    outcomes = [examples().outcomes[f"test_page_{n}"] for n in range(len(python(MANUAL)))]
    shown = [text for language, text in BLOCK.findall(MANUAL) if language == "text"][-1]
    assert outcomes == ["PASSED", "PASSED", "PASSED", "FAILED"]
    assert shown in examples().printed
