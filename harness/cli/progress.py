"""Progress on standard error: every batch of a single run, one moving line for many."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.status import Status

from harness.engines.base import OnProgress
from harness.pipeline.progress import Progress
from harness.report.text import length, usd


class Watcher:
    """Tells how far a command has come, and about when it will end.

    Where nobody watches (no terminal) many runs are told of in one line each, at their start.
    """

    def __init__(self, runs: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._runs = runs
        self._begun = 0
        self._since = time.monotonic()
        self._status: Status | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and self._runs > 1:
            self._status = self._console.status("starting")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def begin(self, variant: str, seed: int) -> OnProgress:
        """A run begins; returns what is to be called at the end of each of its batches."""
        number, began = self._begun, time.monotonic()
        self._begun += 1
        title = f"{variant}, seed {seed}"
        if self._runs > 1 and self._status is None:
            self._say(f"run {number + 1}/{self._runs}: {title} - {self._left(number)}")

        def tell(progress: Progress) -> None:
            done = progress.batch / progress.batches
            if self._status is not None:
                left = self._left(number + done)
                self._status.update(f"{title}: {_line(progress)} - {left}")
            elif self._runs == 1:
                # What an earlier process did took none of this one's time.
                before = progress.before / progress.reviews * done
                share = (done - before) / (1 - before) if before < 1 else 1.0
                self._say(f"{_line(progress)} - {_left(time.monotonic() - began, share)}")

        return tell

    def _left(self, done: float) -> str:
        return _left(time.monotonic() - self._since, done / self._runs)

    def _say(self, line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _line(progress: Progress) -> str:
    # What a foreign client's calls cost is read off the wire when all of them are over.
    dollars = "$ at the end" if progress.batch_usd is None else usd(progress.batch_usd)
    return (
        f"Batch {progress.batch}/{progress.batches}: {progress.reviews} reviews so far - "
        f"{progress.batch_s:.1f} s - {dollars} - {progress.hits} hits so far"
    )


def _left(elapsed_s: float, done: float) -> str:
    """The time that is left if the rest goes as what was done."""
    if done <= 0:
        return "end not known yet"
    return f"done in about {length(elapsed_s * (1 - done) / done)}" if done < 1 else "done"


class Stages:
    """A bar for each stage of a long search, with about how long it will take.

    Where nobody watches (no terminal) a line is written at the start of each stage, and every tenth
    part of it.
    """

    def __init__(self) -> None:
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} runs"),
            TimeRemainingColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._quiet = not self._bar.console.is_terminal
        self._title = ""
        self._task: TaskID | None = None
        self._since = time.monotonic()
        self._told = 0

    def __enter__(self) -> Self:
        if not self._quiet:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._quiet:
            self._bar.stop()

    def begin(self, title: str) -> None:
        """The next stage."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._title, self._task = title, self._bar.add_task(title, total=None)
        self._since, self._told = time.monotonic(), 0

    def count(self, done: int, whole: int) -> None:
        """So many of its runs are there."""
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=whole)
        tenth = 10 * done // whole
        if self._quiet and tenth > self._told:
            self._told = tenth
            left = _left(time.monotonic() - self._since, done / whole)
            sys.stderr.write(f"{self._title}: {done}/{whole} runs - {left}\n")
            sys.stderr.flush()
