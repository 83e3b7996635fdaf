"""The command line from outside: called in this process, or as a process that gets signals."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.cli.main import main

SMALL = """\
[workload]
reviews = 20
[upstream.profile]
ttft = 0.1
[pipeline]
concurrency = 2
[slo]
success_rate = ">= 1"
[variants.kept]
[variants.broken]
expect = "fail"
[variants.broken.slo]
duration_s = "<= 0.5"
"""
CONSOLE = [sys.executable, "-c", "from harness.cli.main import main; main()"]


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


Harness = Callable[..., Done]


def in_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Harness:
    """`harness ...` in this process, from a folder with a small scenario in it."""
    (folder / "small.toml").write_text(SMALL)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "200")

    def harness(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["harness", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return Done(int(end.value.code or 0), *capsys.readouterr())

    return harness


def files(folder: Path) -> set[str]:
    """Every file and folder there is under a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@contextmanager
def process(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """`harness ...` as a process of its own; killed if the test left it running."""
    pipe = subprocess.PIPE
    command = [*CONSOLE, *arguments]
    env = {**os.environ, **(environment or {})}
    with subprocess.Popen(
        command,
        cwd=folder,
        stdout=pipe,
        stderr=pipe,
        text=True,
        env=env,
        start_new_session=True,  # a group of its own, to which Ctrl-C can be sent
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def mentioning(text: str) -> list[str]:
    """Command lines of other processes that are running and have this text in them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has just ended
        if any(text in word for word in words) and folder.name != str(os.getpid()):
            found.append(" ".join(words))
    return found
