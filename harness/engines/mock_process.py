"""The mock in a process of its own, for whatever runs on the wall clock."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from harness.engines.child import child_process, first_line
from mock_llm.config import Upstream
from mock_llm.control.access import VARIABLE


class Running(NamedTuple):
    """A mock that runs.

    Attributes:
        url: its base URL.
        pid: of its process.
    """

    url: str
    pid: int


@contextmanager
def mock_process(
    upstream: Upstream,
    *,
    seed: int,
    answers: Mapping[str, str] | None = None,
    ledger: Path | None = None,
    token: str | None = None,
) -> Iterator[Running]:
    """Run a mock; it ends here, or with this process, however that ends.

    Args:
        upstream: the provider to imitate.
        seed: of its weather.
        answers: right labels, by request key.
        ledger: every row is appended to it (JSONL), and is there afterwards.
        token: lets its owner control it; None: it has no control.

    Raises:
        RuntimeError: it did not start; it has said why on standard error.
    """
    with TemporaryDirectory(prefix="harness-mock-") as folder:
        scenario, labels = Path(folder, "upstream.json"), Path(folder, "answers.jsonl")
        scenario.write_bytes(msgspec.json.encode({"upstream": msgspec.to_builtins(upstream)}))
        lines = [{"key": key, "label": label} for key, label in (answers or {}).items()]
        labels.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        command = ["-m", "mock_llm", "serve", str(scenario), "--port", "0", "--seed", str(seed)]
        command += ["--answers", str(labels), "--until-eof", "--quiet"]
        command += ["--no-control"] if token is None else []
        command += [] if ledger is None else ["--ledger", str(ledger)]
        with child_process(command, {} if token is None else {VARIABLE: token}) as process:
            line = first_line(process)
            if "http://" not in line:
                raise RuntimeError(f"the mock did not start: {line or 'no output'}")
            yield Running("http://" + line.split("http://", 1)[1], process.pid)
