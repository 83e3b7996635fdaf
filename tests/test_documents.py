"""The documents say what is so: commands, options, keys and printed examples are checked."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import msgspec
import pytest
import typer.main
from source_tree import ROOT

from harness.cli.main import app
from harness.scenario.arrivals import Arrivals
from harness.scenario.load import load_file
from harness.scenario.pipeline import Backoff, Legacy, Pipeline, Single, Smart
from harness.scenario.workload import Workload
from mock_llm import __main__ as mock_main
from mock_llm.config import (
    Capacity,
    ColdStart,
    Drift,
    Model,
    Profile,
    PromptCache,
    Recordings,
    Regime,
    Throttle,
    Upstream,
)
from mock_llm.distributions import Distribution
from mock_llm.faults import Fault, FaultBase

README = (ROOT / "README.md").read_text("utf-8")
MANUAL = "\n".join(
    [README, *(page.read_text("utf-8") for page in sorted((ROOT / "docs").glob("*.md")))]
)
SCENARIO = ROOT / "scenarios" / "timeout_crisis.toml"
EXAMPLES_ARE_WIDE = "110"

IGNORED = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()]
MACHINE_PATH = re.compile(r"(?<![\w.:/}])/(?:home|root|tmp|work|Users|mnt|media|srv)/[\w.]")
REGISTRY = re.compile(r"py(?:pi[.]org|thonhosted)|in[d]ex[-_]url|fin[d]-links")
UNFINISHED = re.compile(r"\b(?:T[O]DO|F[I]XME|X[X]X|H[A]CK)\b")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language in the README."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def documents() -> Iterator[Path]:
    """Every text file of the project that git does not ignore."""
    todo = [ROOT]
    while todo:
        for path in todo.pop().iterdir():
            relative = path.relative_to(ROOT)
            if any(relative.match(one) for one in (*IGNORED, ".git")):
                continue
            if path.is_dir():
                # Somebody's virtual environment, by whatever name.
                todo += [] if (path / "pyvenv.cfg").exists() else [path]
            elif b"\0" not in path.read_bytes():
                yield path


def found_in_documents(pattern: re.Pattern[str]) -> list[str]:
    """Every line that the pattern matches, as file:line: text."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in documents()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def command_line() -> Iterator[str]:
    """Every command and option there is, of the harness and of the mock alone."""
    group = typer.main.get_command(app)
    commands = getattr(group, "commands", {})
    for name, command in commands.items():
        yield f"harness {name}"
        for parameter in command.params:
            yield from (option for option in parameter.opts if option.startswith("--"))
    parser = mock_main._parser()
    for action in parser._subparsers._group_actions if parser._subparsers else ():
        for name, command in dict(action.choices or {}).items():
            yield f"python -m mock_llm {name}"
            yield from (one for one in command._option_string_actions if one.startswith("--"))


def kinds(union: object) -> list[str]:
    """The values of `kind` in a union of tagged structs."""
    parts = getattr(union, "__args__", ())
    return [str(one.__struct_config__.tag) for one in parts if hasattr(one, "__struct_config__")]


def printed(*arguments: str, folder: Path) -> list[str]:
    """What `harness run` prints, line by line, at the width of the README's examples."""
    done = subprocess.run(
        [sys.executable, "-c", "from harness.cli.main import main; main()", "run", *arguments],
        env={"COLUMNS": EXAMPLES_ARE_WIDE, "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return [line.rstrip() for line in done.stdout.splitlines()]


def check_example(example: str, lines: list[str]) -> None:
    """Fail at the first line of an example that is not printed any more, in its order."""
    rest = iter(lines)
    for line in example.splitlines():
        assert line in rest, f"the README shows what is not printed: {line}"


def test_first_lines_run_the_crisis_and_the_tests() -> None:
    """The first two shell lines are complete commands: one runs the main job, one the tests."""
    first, second = "".join(blocks("bash")).splitlines()[:2]
    begin = "python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e "
    assert first == begin + ". && .venv/bin/harness run scenarios/timeout_crisis.toml"
    suites = "-n auto --dist loadfile -m 'not wall_clock'", "-m wall_clock"
    runs = " && ".join(f".venv/bin/python -m pytest -q {suite}" for suite in suites)
    assert second == f"{begin}'.[test]' && {runs}"


@pytest.mark.parametrize("word", sorted(set(command_line())))
def test_command_line_is_documented(word: str) -> None:
    """Every command and every option is in the README or a page of docs."""
    assert re.search(rf"`{re.escape(word)}[`/ ]", MANUAL)


@pytest.mark.parametrize(
    "table",
    [
        *(Workload, Pipeline, Backoff, Legacy, Smart, Single),
        *Arrivals.__args__,
        *(Regime, Drift),
        *(Upstream, Capacity, Model, Throttle, Profile, ColdStart, PromptCache, Recordings),
    ],
)
def test_keys_are_documented(table: type[msgspec.Struct]) -> None:
    """Every key of a scenario is in the README or a page of docs."""
    absent = [name for name in table.__struct_fields__ if f"`{name}`" not in MANUAL]
    assert absent == []


def test_kinds_are_documented() -> None:
    """Every fault, distribution and shape of arrivals is in the documents by its kind."""
    names = [*kinds(Fault), *kinds(Distribution), *kinds(Arrivals)]
    assert len(names) >= 12
    assert [name for name in names if f"`{name}`" not in MANUAL] == []


@pytest.mark.parametrize("fault", Fault.__args__, ids=lambda one: one.__name__)
def test_faults_are_documented(fault: type[msgspec.Struct]) -> None:
    """Every fault has a line in the documents with its own keys, and says where it was seen."""
    tag = fault.__struct_config__.tag
    (line,) = re.findall(rf"^\| `{tag}` \|.*$", MANUAL, re.MULTILINE)
    own = [name for name in fault.__struct_fields__ if name not in FaultBase.__struct_fields__]
    assert [name for name in own if f"`{name}`" not in line] == []
    assert "Evidence: " in (fault.__doc__ or "")
    assert [name for name in FaultBase.__struct_fields__ if f"`{name}`" not in MANUAL] == []


def test_crisis_prints_what_the_readme_shows(tmp_path: Path) -> None:
    """The README's table of the crisis is what the command prints, row by row."""
    lines = printed("scenarios/timeout_crisis.toml", "--out", str(tmp_path), folder=ROOT)
    check_example(blocks("text")[0], lines)


def test_own_client_prints_what_the_readme_shows(tmp_path: Path) -> None:
    """The README's client, saved as it stands, gives the table that stands below it."""
    (tmp_path / "my_client.py").write_text(blocks("python")[0], "utf-8")
    storm = ("--variant", "after_storm", "--target", "my_client:label")
    lines = printed(str(SCENARIO), *storm, folder=tmp_path)
    shown = [block for block in blocks("text") if "1,000 connections for 1,000" in block]
    check_example(shown[-1], lines)


def test_own_scenario_is_one(tmp_path: Path) -> None:
    """The README's scenario loads as it stands, with both its variants."""
    path = tmp_path / "mine.toml"
    path.write_text(blocks("toml")[0], "utf-8")
    assert load_file(path, []).names() == ["today", "before"]


def test_version_has_an_entry_in_the_changelog() -> None:
    """The version of the package is the newest heading of the changelog."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## \[(.*?)\] - (.+)$", changes, re.MULTILINE)
    assert headings[0][0] == version
    assert re.fullmatch(r"Unreleased|\d{4}-\d\d-\d\d", headings[0][1])


def test_links_lead_somewhere() -> None:
    """Every relative link of the documents names a file."""
    dead = [
        f"{path.name}: {link}"
        for path in ROOT.glob("*.md")
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8"))
        if not (ROOT / link).exists()
    ]
    assert dead == []


def test_every_dependency_is_pinned() -> None:
    """Each direct dependency has its version in the constraints, which hold nothing but pins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    pinned = {re.split("==", line)[0].lower().replace("_", "-") for line in lines}
    assert {re.split(r"[^\w.-]", one)[0].lower() for one in wanted} <= pinned


@pytest.mark.parametrize(
    "pattern", [MACHINE_PATH, REGISTRY, UNFINISHED], ids=["path", "registry", "mark"]
)
def test_nothing_of_this_machine_or_unfinished(pattern: re.Pattern[str]) -> None:
    """No file names a path of one machine or a registry, or says that it is not done."""
    found = found_in_documents(pattern)
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (MACHINE_PATH, "see " + "/ho" + "me/ann/x"),
        (REGISTRY, "https://py" + "pi.org/x"),
        (REGISTRY, "--index" + "-url x"),
        (UNFINISHED, "# TO" + "DO: later"),
    ],
)
def test_patterns_find_their_offence(pattern: re.Pattern[str], line: str) -> None:
    """Each pattern finds what it is there for."""
    assert pattern.search(line)


def test_recipes_are_one_line_each() -> None:
    """Every recipe of the Makefile is one line of work, and there are about a dozen."""
    text = (ROOT / "Makefile").read_text()
    recipes = re.findall(r"^(\w+):.*\n((?:\t.+\n)+)", text, re.MULTILINE)
    assert len(recipes) in range(7, 16)
    assert [name for name, body in recipes if body.count("\n") > 1] == []


def test_ci_runs_the_readme() -> None:
    """The CI script takes its commands from the README, so that they cannot drift."""
    script = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
