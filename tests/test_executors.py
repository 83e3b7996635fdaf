"""Sweeps: what is done is kept and never done again, on whatever makes the runs."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from socket import create_server
from typing import Any

import msgspec
import pytest
from planning import point, question

from harness.errors import InputError
from harness.experiments.executors import Inline, Kept, executor, sweep
from harness.experiments.points import Point, Task, measure

ADDRESS = "tcp://127.0.0.1:"


def tasks(folder: Path, count: int = 4) -> list[Task]:
    """So many runs of the small provider, a seed each."""
    first = question(folder, "20 reviews in 60 s").configurations[0].task
    return [msgspec.structs.replace(first, seed=n + 1) for n in range(count)]


def test_nothing_is_computed_twice(tmp_path: Path) -> None:
    """A run that is named twice, or that an earlier sweep kept, is not made again."""
    made: list[int] = []

    def run(task: Task) -> Point:
        made.append(task.seed)
        return point(task, duration_s=float(task.seed))

    todo, place = tasks(tmp_path), tmp_path / "out" / "points.jsonl"
    first = sweep([*todo[:2], todo[0]], Inline(), Kept(place), run=run)
    assert [one.seed for one in first] == [1, 2, 1]
    again = sweep(todo, Inline(), Kept(place), run=run)
    assert [one.figures["duration_s"] for one in again] == [1, 2, 3, 4]
    assert made == [1, 2, 3, 4]


def test_another_world_is_another_run(tmp_path: Path) -> None:
    """The key of a run changes with all that its result depends on, and with nothing else."""
    one = tasks(tmp_path, 1)[0]
    scenario = one.scenario
    slower = msgspec.structs.replace(scenario.pipeline, concurrency=1)
    other = msgspec.structs.replace(scenario, pipeline=slower)
    differ: list[dict[str, Any]] = [
        {"seed": 9},
        {"engine": "virtual"},
        {"scenario": other},
        {"corpus": "12-34"},
    ]
    keys = {msgspec.structs.replace(one, **change).key for change in differ}
    assert len(keys | {one.key}) == 5
    same: list[dict[str, Any]] = [
        {"label": "x"},
        {"scenario": msgspec.structs.replace(scenario, about="x", slo={})},
    ]
    assert {msgspec.structs.replace(one, **change).key for change in same} == {one.key}


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    """What a kill left half-written is forgotten, and the rest is still there."""
    place = tmp_path / "points.jsonl"
    kept = Kept(place)
    for task in tasks(tmp_path):
        kept.add(point(task))
    place.write_bytes(place.read_bytes()[:-20])
    assert len(Kept(place)) == 3
    assert place.read_bytes().endswith(b"\n")


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    """A file that holds no points is named, and left as it is."""
    place = tmp_path / "points.jsonl"
    place.write_text('{"other": 1}\n')
    with pytest.raises(InputError, match="no points of a sweep"):
        Kept(place)
    assert place.read_text() == '{"other": 1}\n'


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_keeps_what_is_done(tmp_path: Path, threads: int) -> None:
    """Ctrl-C ends a sweep, and every run that had ended by then is kept."""
    place = tmp_path / "points.jsonl"

    def run(task: Task) -> Point:
        if task.seed == 3:
            raise KeyboardInterrupt
        return point(task)

    pool = Inline() if threads == 1 else ThreadPoolExecutor(1)
    with pool, pytest.raises(KeyboardInterrupt):
        sweep(tasks(tmp_path), pool, Kept(place), run=run)
    assert len(Kept(place)) in {2, 3}


def test_a_run_that_was_interrupted_is_no_result(tmp_path: Path) -> None:
    """A run that Ctrl-C cut short is not kept, and ends the sweep."""

    def run(task: Task) -> Point:
        return msgspec.structs.replace(point(task), stopped="interrupted")

    kept = Kept()
    with pytest.raises(KeyboardInterrupt):
        sweep(tasks(tmp_path), Inline(), kept, run=run)
    assert len(kept) == 0


def test_a_mistake_in_a_run_reaches_the_caller(tmp_path: Path) -> None:
    """What a run refuses is told, whichever process it was in."""

    def run(_: Task) -> Point:
        raise InputError("no such corpus")

    with pytest.raises(InputError, match="no such corpus"):
        sweep(tasks(tmp_path), Inline(), Kept(), run=run)


def test_progress_counts_what_was_there_already(tmp_path: Path) -> None:
    """Told after each run: how many of all are done, those of an earlier sweep included."""
    kept, told = Kept(), list[tuple[int, int]]()
    todo = tasks(tmp_path)
    kept.add(point(todo[0]))
    sweep(todo, Inline(), kept, lambda done, whole: told.append((done, whole)), run=point)
    assert told == [(2, 4), (3, 4), (4, 4)]


def test_processes_make_the_same_runs(tmp_path: Path) -> None:
    """Runs made in other processes have the figures of those made here."""
    todo = tasks(tmp_path, 2)
    with executor(jobs=2) as pool:
        there = sweep(todo, pool, Kept())
    assert [one.figures for one in there] == [measure(task).figures for task in todo]


@contextmanager
def dask(*command: str) -> Iterator[str]:
    """A part of a local cluster; yields the first line in which it says where it is."""
    with subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "DASK_DISTRIBUTED__DASHBOARD__LINK": ""},
    ) as running:
        try:
            assert running.stderr is not None
            lines = iter(running.stderr.readline, "")
            yield next(line for line in lines if ADDRESS in line)
            # Whoever does not read on would let it block on a full pipe.
        finally:
            running.terminate()
            drain = threading.Thread(target=running.stderr.read)  # type: ignore[union-attr]
            drain.start()
            running.wait()
            drain.join()


def test_a_cluster_makes_the_same_runs(tmp_path: Path) -> None:
    """Two workers of a Dask cluster, each a process, make the runs that are made here."""
    todo = tasks(tmp_path, 3)
    quiet = ("--no-dashboard", "--host", "127.0.0.1")
    with dask("dask_scheduler", *quiet, "--port", "0") as said:
        address = ADDRESS + said.split(ADDRESS)[1].split()[0]
        worker = ("dask_worker", address, *quiet, "--nthreads", "1", "--no-nanny")
        with dask(*worker), dask(*worker), executor(dask=address) as pool:
            there = sweep(todo, pool, Kept())
    assert [one.figures for one in there] == [measure(task).figures for task in todo]


def test_a_cluster_without_workers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that has nobody to work for it is told, and how to give it somebody."""
    monkeypatch.setattr("harness.experiments.executors.CLUSTER_PATIENCE_S", 1.0)
    with dask("dask_scheduler", "--no-dashboard", "--host", "127.0.0.1", "--port", "0") as said:
        address = ADDRESS + said.split(ADDRESS)[1].split()[0]
        with pytest.raises(InputError, match=f"dask worker {address}"), executor(dask=address):
            pass


def test_who_is_no_scheduler_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that takes a call and does not answer, as a dashboard's, is told after a moment."""
    monkeypatch.setattr("harness.experiments.executors.CLUSTER_PATIENCE_S", 0.3)
    with create_server(("127.0.0.1", 0)) as silent:
        address = f"{ADDRESS}{silent.getsockname()[1]}"
        with pytest.raises(InputError, match="another protocol"), executor(dask=address):
            pass


ORPHANS = """
import os, signal
from harness.experiments.executors import executor
if __name__ == "__main__":
    with executor(jobs=2) as pool:
        pool.submit(os.getpid).result()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Processes whose parent is killed do not wait for work for ever."""
    script = tmp_path / "sweeping.py"
    script.write_text(ORPHANS)
    command = [sys.executable, str(script)]
    # Its processes have its standard output too: that ends when the last of them does.
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x", ":"])
def test_a_dead_cluster_is_one_line(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """An address at which nobody answers is told after a moment, and nothing runs."""
    monkeypatch.setattr("harness.experiments.executors.CLUSTER_PATIENCE_S", 0.3)
    with pytest.raises(InputError, match=f"--dask {address}") as told, executor(dask=address):
        pass
    assert "\n" not in str(told.value)
