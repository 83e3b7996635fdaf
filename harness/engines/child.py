"""Processes that this one starts: they end when it lets them, and with it, however that ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

_STOP_S = 20.0


@contextmanager
def child_process(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    errors: Path | None = None,
    stop_s: float = _STOP_S,
) -> Iterator[subprocess.Popen[str]]:
    """Run a module or program with this one's `sys.path`, and end it with SIGTERM.

    Should this process be killed, the pipe to the child's standard input ends: a child that was
    told `--until-eof` ends with it. Ctrl-C is for us; the child outlives it to hand in what it has.

    Args:
        command: arguments of our own Python.
        environment: on top of ours.
        errors: file that its standard error goes to; None: ours.
        stop_s: it is killed when it has not ended so long after the signal.
    """
    with nullcontext() if errors is None else errors.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            start_new_session=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                **(environment or {}),
            },
        )
    try:
        yield process
    finally:
        _end(process, stop_s)


def _end(process: subprocess.Popen[str], stop_s: float) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(stop_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def first_line(process: subprocess.Popen[str]) -> str:
    """What it says first, "" when it has ended without a word."""
    if process.stdout is None:  # `child_process` asks for it
        raise RuntimeError("the child has no output")
    return process.stdout.readline().strip()
