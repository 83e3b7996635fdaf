"""The mock in a process of its own, for whatever runs on the wall clock."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from mock_llm.config import Upstream

_STOP_S = 20.0


@contextmanager
def mock_process(
    upstream: Upstream,
    *,
    seed: int,
    answers: Mapping[str, str] | None = None,
    ledger: Path | None = None,
) -> Iterator[str]:
    """Run a mock and yield its base URL; it ends here, or with this process, however that ends.

    Args:
        upstream: the provider to imitate.
        seed: of its weather.
        answers: right labels, by request key.
        ledger: every row is appended to it (JSONL), and is there afterwards.

    Raises:
        RuntimeError: it did not start; it has said why on standard error.
    """
    with TemporaryDirectory(prefix="harness-mock-") as folder:
        scenario, labels = Path(folder, "upstream.json"), Path(folder, "answers.jsonl")
        scenario.write_bytes(msgspec.json.encode({"upstream": msgspec.to_builtins(upstream)}))
        lines = [{"key": key, "label": label} for key, label in (answers or {}).items()]
        labels.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        command = [sys.executable, "-m", "mock_llm", "serve", str(scenario), "--port", "0"]
        command += ["--seed", str(seed), "--answers", str(labels)]
        # Should this process be killed, the pipe ends, and the mock with it.
        command += ["--until-eof", "--no-control", "--quiet"]
        command += [] if ledger is None else ["--ledger", str(ledger)]
        process = subprocess.Popen(  # noqa: S603 - our own module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us; the mock outlives it to hand in its ledger
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        try:
            yield _listening(process)
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _listening(process: subprocess.Popen[str]) -> str:
    """The base URL from the mock's first line."""
    if process.stdout is None:  # asked for above
        raise RuntimeError("the mock has no output")
    line = process.stdout.readline().strip()
    if "http://" not in line:
        raise RuntimeError(f"the mock did not start: {line or 'no output'}")
    return "http://" + line.split("http://", 1)[1]
