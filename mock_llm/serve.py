"""Runs the mock as a process of its own: one line when it is ready, a clean end on a signal."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mock_llm.cassette import torn
from mock_llm.config import Upstream
from mock_llm.control.access import Access
from mock_llm.control.watch import Tell, attended, summary
from mock_llm.errors import InputError
from mock_llm.network import absent, aimless
from mock_llm.player import Streams
from mock_llm.settings import Settings, calm_collector, instant, loop_factory

__all__ = ["instant", "listening", "read_answers", "serve", "tell_stderr", "when_told"]

MOST_WORKERS = 64


class Answer(msgspec.Struct):
    """A line of an answers file; what else it has is not looked at."""

    key: str
    label: str


def serve(
    upstream: Upstream,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 1,
    ledger_file: Path | None = None,
    answers: Mapping[str, str] | None = None,
    zero_delay: bool = False,
    workers: int = 1,
    until_eof: int | None = None,
    drain_s: float = 0.0,
    at_stop: Streams = "finish",
    tls: tuple[Path, Path] | None = None,
    access: Access | None = None,
    quiet: bool = False,
) -> int:
    """Serve until SIGTERM or SIGINT, then return; all rows are in the ledger's file by then.

    A second signal ends at once what may still go on after the first.

    Prints `mock_llm listening on http://HOST:PORT/api/v1` (or https) once requests can come, then
    how to control it and a line for each fault that cannot be injected here. Warnings and a summary
    go to stderr.

    Args:
        upstream: the provider to imitate.
        host: address to listen on.
        port: 0 for any free one.
        seed: of all the weather.
        ledger_file: every row is appended to it as it ends (JSONL).
        answers: the right label of a request, by request key.
        zero_delay: answers are ready at once; see `instant`.
        drain_s: how long what is under way may go on after the signal; see `MockServer.close`.
        at_stop: how the rest ends.
        workers: processes that serve as one; see `hub`.
        until_eof: a descriptor whose end of file stops the mock as a signal does.
        tls: certificate and key (PEM): HTTPS in place of HTTP.
        access: who may control it; None: nobody, and the pages of control are not there.
        quiet: no warnings and no summary.

    Returns:
        The exit code: 0, or 1 when a worker died again and again.

    Raises:
        InputError: the files of TLS are no good, the address cannot be had, the ledger's file
            cannot be written, or a number is too large to be told to several workers.
    """
    settings = Settings(
        upstream=instant(upstream) if zero_delay else upstream,
        seed=seed,
        ledger_file=None if ledger_file is None else str(ledger_file),
        answers=dict(answers or {}),
        transit=not zero_delay,
        drain_s=drain_s,
        at_stop=at_stop,
        tls=None if tls is None else (str(tls[0]), str(tls[1])),
        token=None if access is None else access.token,
        anywhere=access is not None and access.anywhere,
    )
    settings.context()  # a mistake in its files is told before anything else happens
    address = (host, port)
    several = workers > 1
    tell = _nobody if quiet else tell_stderr
    for line in [*torn(settings.upstream), *aimless(settings.upstream)]:
        tell(line)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        main = (
            _together(settings, address, until_eof, workers, access, tell)
            if several
            else _alone(settings, address, until_eof, access, tell)
        )
        return 0 if runner.run(main) else 1


async def _alone(
    settings: Settings,
    address: tuple[str, int],
    until_eof: int | None,
    access: Access | None,
    tell: Tell,
) -> bool:
    stop = asyncio.Event()
    server = settings.server()

    def on_stop() -> None:
        if stop.is_set():
            server.hurry()
        stop.set()

    when_told(on_stop, until_eof)
    async with attended(server, access, tell):
        try:
            with listening(address):
                port = await server.start(*address, ssl=settings.context())
            _announce(settings, address[0], port, access)
            calm_collector()
            await stop.wait()
        finally:
            await server.close(settings.drain_s, settings.at_stop)
    gauges = server.ledger.gauges
    for line in summary(gauges.total(), gauges.warnings):
        tell(line)
    return True


def _nobody(_: str) -> None:
    """Tell nobody."""


def tell_stderr(line: str) -> None:
    """Have whoever watches read a line."""
    sys.stderr.write(f"mock_llm: {line}\n")
    sys.stderr.flush()


async def _together(
    settings: Settings,
    address: tuple[str, int],
    until_eof: int | None,
    workers: int,
    access: Access | None,
    tell: Tell,
) -> bool:
    from mock_llm.listeners import listeners

    try:
        msgspec.msgpack.encode(settings)  # as every worker is told them
    except OverflowError as error:
        why = "a whole number of the seed or the scenario is too large for several workers"
        raise InputError(f"{why}: at most 64 bits") from error
    with listening(address):
        sockets = listeners(*address, workers)
    from mock_llm.hub import Hub  # after the system has turned out to have what it needs

    port = sockets[0][0].getsockname()[1]
    hub = Hub(settings, sockets, tell, lambda: _announce(settings, address[0], port, access))
    when_told(hub.stop, until_eof)
    return await hub.run()


@contextmanager
def listening(address: tuple[str, int]) -> Iterator[None]:
    """Make a user's error of an address that cannot be had."""
    try:
        yield
    except OSError as error:
        host, port = address
        why = f"{error}; choose another host or port"
        raise InputError(f"cannot listen on {host}:{port}: {why}") from error


def _announce(settings: Settings, host: str, port: int, access: Access | None) -> None:
    shown = f"[{host}]" if ":" in host else host
    url = f"{'https' if settings.tls else 'http'}://{shown}:{port}/api/v1"
    more = access.lines(url) if access else []
    sys.stdout.write("\n".join([f"mock_llm listening on {url}", *more, ""]))
    sys.stdout.writelines(f"mock_llm: {line}\n" for line in absent(settings.upstream))
    sys.stdout.flush()


def when_told(stop: Callable[[], None], until_eof: int | None = None) -> None:
    """Call `stop` on a signal, and when a descriptor has nothing more to say."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if until_eof is None:
        return
    file = until_eof

    def look() -> None:
        if not os.read(file, 4096):
            loop.remove_reader(file)
            stop()

    try:
        loop.add_reader(file, look)
    except OSError as error:
        raise InputError(f"cannot wait for the end of input: {error}; give it a pipe") from error


def read_answers(path: Path) -> dict[str, str]:
    """Read right labels: one `{"key": ..., "label": ...}` a line, blank lines skipped.

    Raises:
        InputError: the file cannot be read, or a line is not of that shape.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot read the answers: {error.strerror}") from error
    decode = msgspec.json.Decoder(Answer).decode
    answers: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            answer = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        answers[answer.key] = answer.label
    return answers
