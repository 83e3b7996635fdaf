"""What is driven: a mock and a service in processes of their own, or whatever `--host` names."""

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import NamedTuple

from harness.engines.base import Prepared
from harness.engines.child import child_process, first_line
from harness.engines.mock_process import mock_process
from harness.engines.serving import COUNTED
from harness.errors import InputError
from loadtests.levels import Named
from mock_llm.control.access import Access

_KEY = "LOADTEST_PROVIDER_KEY"
HARNESS = ("-c", "from harness.cli.main import main; main()")
DRAIN_S = 5.0
"""For what is under way at the end: users have their answers, unless they were cut short."""


class Choice(NamedTuple):
    """Which world is flown.

    Attributes:
        path: of the scenario.
        variant: its name.
        expect: whether the scenario says that it keeps its promises.
        seed: of all its weather.
        sets: `dotted.key=value` each.
        prepared: the scenario with everything read that it needs.
        shape: how many users there are and when; None: as the scenario says.
    """

    path: Path
    variant: str
    expect: str
    seed: int
    sets: tuple[str, ...]
    prepared: Prepared
    shape: Named | None = None


class Stack:
    """A service to be driven, and the mock behind it.

    Args:
        choice: which world it is.
        port: of the service; 0 for any free one.
        host: address that the service listens on.

    Attributes:
        choice: as given.
        service_url: base URL.
        mock_url: base URL of the mock, which ends in `/api/v1`; None: unknown.
        token: of the mock's control; None: unknown.
        records: file that the service writes every call to; None: unknown.
        ledger: file that the mock writes every attempt to; None: unknown.
        origin_s: monotonic time from which the records count.
        pids: name -> process, of those that were started.
    """

    def __init__(self, choice: Choice, port: int = 0, host: str = "127.0.0.1") -> None:
        self.choice = choice
        self.service_url = ""
        self.mock_url: str | None = None
        self.token: str | None = None
        self.records: Path | None = None
        self.ledger: Path | None = None
        self.origin_s = 0.0
        self.pids: dict[str, int] = {}
        self._place = ["--host", host, "--port", str(port)]
        self._processes, self._files = ExitStack(), ExitStack()

    @classmethod
    def given(
        cls, choice: Choice, service_url: str, mock_url: str | None, token: str | None
    ) -> "Stack":
        """What others have started; nothing is known of it but what they say."""
        stack = cls(choice)
        stack.service_url, stack.mock_url, stack.token = service_url, mock_url, token
        return stack

    def start(self) -> None:
        """Start the mock, then the service, and wait until it can be asked.

        Raises:
            InputError: one of them did not start; nothing is left of the other.
        """
        with ExitStack() as files, ExitStack() as held:
            folder = Path(files.enter_context(TemporaryDirectory(prefix="loadtest-")))
            self.records, self.ledger = folder / "records.jsonl", folder / "ledger.jsonl"
            self.token = Access().token
            prepared = self.choice.prepared
            mock = held.enter_context(
                mock_process(
                    prepared.scenario.upstream,
                    seed=self.choice.seed,
                    answers=prepared.answer_key,
                    ledger=self.ledger,
                    token=self.token,
                )
            )
            self.mock_url = mock.url
            service = held.enter_context(self._service(folder / "service.log"))
            self._listen(service, folder / "service.log")
            self.pids = {"mock": mock.pid, "service": service.pid}
            self._processes, self._files = held.pop_all(), files.pop_all()

    def stop(self) -> None:
        """End the processes that were started; their files are whole then, and stay."""
        self._processes.close()

    def close(self) -> None:
        """End the processes and remove their files."""
        with self._files:
            self.stop()

    def _service(self, errors: Path) -> AbstractContextManager["Popen[str]"]:
        choice = self.choice
        command = [*HARNESS, "serve", str(choice.path), "--variant", choice.variant]
        command += [word for one in choice.sets for word in ("--set", one)]
        command += ["--seed", str(choice.seed), *self._place, "--quiet"]
        command += ["--upstream-url", str(self.mock_url), "--key-env", _KEY, "--until-eof"]
        command += ["--records", str(self.records), "--drain", str(DRAIN_S)]
        return child_process(command, {_KEY: "sk-or-v1-simulated"}, errors, stop_s=DRAIN_S + 15)

    def _listen(self, service: "Popen[str]", errors: Path) -> None:
        line = first_line(service)
        if not line.startswith("serving on "):
            service.wait()
            said = errors.read_text("utf-8", "replace").strip().splitlines()
            why = said[-1].removeprefix("harness: ") if said else f"exit code {service.returncode}"
            raise InputError(f"the service did not start: {why}")
        self.service_url = line.split()[2]
        self.origin_s = float(first_line(service).removeprefix(COUNTED).split()[0])
