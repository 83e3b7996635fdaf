"""Sweeps on any `concurrent.futures.Executor`: this process, several, or a cluster.

What is done is kept, a line each, as soon as it is done. A sweep that is broken off goes on from
there; nothing is computed twice.
"""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec

from harness.errors import InputError
from harness.experiments.points import Point, Task, measure

P = ParamSpec("P")
T = TypeVar("T")
OnPoint = Callable[[int, int], None]
CLUSTER_PATIENCE_S = 5.0
IN_FLIGHT = 1000
"""Runs handed out at once: enough for any cluster, and what is cut short is soon over."""


class Inline(Executor):
    """Runs what it is given at once, in this process."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run it; what it raises is the caller's, and not kept for later."""
        done: Future[T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@contextmanager
def executor(jobs: int = 1, dask: str | None = None) -> Iterator[Executor]:
    """Where the runs of a sweep are made, until the block ends.

    Args:
        jobs: processes on this machine; one is this process itself.
        dask: address of a Dask scheduler, in place of processes here.

    Raises:
        InputError: nobody answers at that address.
    """
    if dask is not None:
        with _cluster(dask) as found:
            yield found
        return
    if jobs == 1:
        yield Inline()
        return
    # A fork would copy threads and event loops in whatever state they are.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_follow_the_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_the_parent() -> None:
    """The parent alone says what becomes of a Ctrl-C, which a terminal sends to all processes.

    A parent that is killed says nothing, and its processes would wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


@contextmanager
def _cluster(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
        from distributed.comm.addressing import get_address_host_port
        from distributed.comm.core import connect as reach
    except ImportError:
        raise InputError("--dask: needs the dask extra: pip install -e '.[dask]'") from None
    try:
        get_address_host_port(address)  # a client that cannot read it complains again at its end
        asyncio.run(_knock(reach, address))
        connect: Any = Client  # it has no types
        client = connect(address, timeout=CLUSTER_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        why = " ".join(str(error).split())[:120]
        raise InputError(f"--dask {address}: no scheduler answers there: {why}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=CLUSTER_PATIENCE_S)
        except TimeoutError:
            raise InputError(
                f"--dask {address}: the scheduler has no worker: dask worker {address} --nthreads 1"
            ) from None
        yield client.get_executor(pure=False)


async def _knock(reach: Any, address: str) -> None:
    """A client waits without end for whoever takes its call and is no scheduler, a dashboard say.

    Raises:
        OSError: nobody answers as a scheduler does.
    """
    try:
        async with asyncio.timeout(2 * CLUSTER_PATIENCE_S):
            comm = await reach(address, timeout=CLUSTER_PATIENCE_S)
    except TimeoutError:
        raise OSError("who is there speaks another protocol; a dashboard has a port too") from None
    await comm.close()


class Kept:
    """The points that are there already, and the file that they are in.

    Args:
        path: JSONL; None keeps them in memory alone.

    Raises:
        InputError: the file cannot be read or written, or a line of it is no point.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._points: dict[str, Point] = {}
        if path is not None and path.exists():
            self._points = {one.key: one for one in _read(path)}

    def __len__(self) -> int:
        return len(self._points)

    def __contains__(self, key: str) -> bool:
        return key in self._points

    def of(self, task: Task) -> Point:
        """The point of a task that was run."""
        return self._points[task.key]

    def add(self, point: Point) -> None:
        """Keep one more; it is on the disk when this returns.

        Raises:
            InputError: the file cannot be written.
        """
        self._points[point.key] = point
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(point) + b"\n")
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written: {error.strerror}") from error


def _read(path: Path) -> Iterator[Point]:
    """Every whole line of a file; one that was torn by a kill is cut off."""
    try:
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        for line in whole.splitlines():
            yield msgspec.json.decode(line, type=Point)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: no points of a sweep: {error}; name another --out") from error


def sweep(
    tasks: Sequence[Task],
    pool: Executor,
    kept: Kept,
    on_point: OnPoint | None = None,
    run: Callable[[Task], Point] = measure,
) -> list[Point]:
    """Make the runs that are not kept yet, and return those of all tasks, in order.

    Args:
        tasks: the runs; the same one may be named twice.
        pool: makes them, see `executor`.
        kept: what is there already; it grows with every run that ends.
        on_point: called with how many of the tasks are done, and of how many.
        run: makes one run.

    Raises:
        InputError: a run cannot be made, a result cannot be kept, or a worker died.
        KeyboardInterrupt: what has ended by then is kept.
    """
    names = {task.key for task in tasks}
    todo = iter({task.key: task for task in tasks if task.key not in kept}.values())
    width = 1 if isinstance(pool, Inline) else IN_FLIGHT
    running: set[Future[Point]] = set()
    try:
        while True:
            for task in islice(todo, width - len(running)):
                running.add(pool.submit(run, task))
            if not running:
                return [kept.of(task) for task in tasks]
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                _keep(kept, future.result())
                running.remove(future)
                if on_point is not None:
                    on_point(sum(name in kept for name in names), len(names))
    except BrokenProcessPool:
        raise InputError(
            f"a worker process died (out of memory?); {len(kept)} runs are kept: run it again, "
            "with fewer --jobs"
        ) from None
    finally:
        for future in running:
            if not future.cancel() and future.done() and future.exception() is None:
                point = future.result()
                if point.stopped != "interrupted":
                    kept.add(point)


def _keep(kept: Kept, point: Point) -> None:
    """Keep a run that ended by itself.

    Raises:
        KeyboardInterrupt: Ctrl-C ended it.
    """
    if point.stopped == "interrupted":
        raise KeyboardInterrupt
    kept.add(point)
