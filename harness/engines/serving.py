"""The service as a process: a mock of its own, signals, and an end that loses nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from harness.engines.base import Prepared, toolkit
from harness.engines.mock_process import mock_process
from harness.engines.real import Endpoint
from harness.errors import InputError
from harness.pipeline.service.host import Host
from harness.pipeline.service.lag import TICK_S, LagMeter
from harness.pipeline.service.monitor import Monitor
from harness.pipeline.toolkit import Toolkit
from harness.records import Record, moved
from mock_llm.serve import listening, when_told
from mock_llm.settings import calm_collector, loop_factory

CUT_SHORT = 1
INTERRUPTED = 130
LAGS = round(10 / TICK_S)
"""Lags of the loop that are kept: of the last 10 s."""
LOOK_S = 1.0
COUNTED = "records count from "
"""What a service says of its records' clock, so that others on the machine can tell them apart."""

_LOG = logging.getLogger(__name__)


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What a service is started with.

    Attributes:
        prepared: settings, router and prices.
        host: address to listen on.
        port: 0 for any free one.
        seed: of the weather of its own mock, and of the backoff.
        endpoint: of the provider; None: a mock of its own.
        drain_s: how long what is under way may go on after the first signal.
        log: is told of requests and refusals; None: nobody is.
        records: every row is written to it (JSONL); times count from the start.
        journal: see `Host`.
        until_eof: a descriptor whose end of file stops the service as a signal does.
    """

    prepared: Prepared
    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 1
    endpoint: Endpoint | None = None
    drain_s: float = 30.0
    log: logging.Logger | None = None
    records: Path | None = None
    journal: Path | None = None
    until_eof: int | None = None


def serve(serving: Serving, tell: Callable[[str], None]) -> int:
    """Serve until SIGTERM or SIGINT, then finish what is under way; a second signal cuts it short.

    Args:
        serving: what with.
        tell: is handed one line as soon as requests can come.

    Returns:
        The exit code: 0, 1 when something was still under way after `drain_s`, 130 after a second
        signal.

    Raises:
        InputError: the address cannot be had, the file of records cannot be written, or the journal
            cannot be gone on with.
    """
    upstream = serving.prepared.scenario.upstream
    with ExitStack() as stack:
        if serving.endpoint is None:
            base_url = stack.enter_context(mock_process(upstream, seed=serving.seed)).url
        else:
            base_url = serving.endpoint.base_url
        runner = stack.enter_context(asyncio.Runner(loop_factory=loop_factory()))
        return runner.run(_serve(serving, base_url, tell))


async def _serve(serving: Serving, base_url: str, tell: Callable[[str], None]) -> int:
    stop, hurry = asyncio.Event(), asyncio.Event()
    when_told(lambda: hurry.set() if stop.is_set() else stop.set(), serving.until_eof)
    prepared, rows = serving.prepared, _Rows()
    tools = _tools(serving, base_url)
    monitor, settings = Monitor(serving.log), prepared.scenario.pipeline
    try:
        async with (
            LagMeter(keep=LAGS) as lag,
            Host(
                settings,
                tools,
                prepared.router,
                record=rows.add,
                monitor=monitor,
                journal=serving.journal,
                lag=lag,
            ) as host,
            _watching(host),
        ):
            with listening((serving.host, serving.port)):
                port = await host.listen(serving.host, serving.port)
            rows.open(serving.records)
            shown = f"[{serving.host}]" if ":" in serving.host else serving.host
            tell(f"serving on http://{shown}:{port} (upstream {base_url})")
            if serving.records is not None:
                tell(f"{COUNTED}{rows.origin:.9f} s on the monotonic clock")
            if host.in_doubt:
                tell(_doubt(host))
            calm_collector()
            await stop.wait()
            monitor.changed("draining", state=True, good=False)
            return await _drain(host, serving.drain_s, hurry)
    finally:
        rows.close()


@asynccontextmanager
async def _watching(host: Host) -> AsyncIterator[None]:
    """Have what can go wrong looked at once a second, and said when it has changed."""

    async def keep_looking() -> None:
        while True:
            _look(host)
            await asyncio.sleep(LOOK_S)

    looking = asyncio.create_task(keep_looking())
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.wait([looking])
        _look(host)


def _look(host: Host) -> None:
    processor, link = host.service.processor, host.common.link
    for model, state in processor.guards.states().items():
        host.monitor.changed(f"breaker {model}", state, good="closed")
    if link is not None:
        host.monitor.changed("redis up", link.up, good=True)
    host.monitor.changed("out of money", processor.books.broke, good=None)


async def _drain(host: Host, limit_s: float, hurry: asyncio.Event) -> int:
    """Finish what is under way, unless there is a hurry; returns the exit code."""
    draining = asyncio.create_task(host.drain(limit_s))
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if draining.done():
        return CUT_SHORT if draining.result() else 0
    draining.cancel()
    await asyncio.wait({draining})
    return INTERRUPTED


def _doubt(host: Host) -> str:
    usd = sum(one.usd for one in host.in_doubt)
    return (
        f"{len(host.in_doubt)} attempts were in flight when the last service ended: "
        f"made again, they may be paid twice (${usd:.6f})"
    )


def _tools(serving: Serving, base_url: str) -> Toolkit:
    tools = toolkit(serving.prepared, serving.seed, base_url, None)
    endpoint = serving.endpoint
    if endpoint is None:
        return tools
    return msgspec.structs.replace(tools, api_key=endpoint.key, ca_file=endpoint.ca_file)


class _Rows:
    """Rows on their way into a file, whole lines only; without a file they are dropped."""

    def __init__(self) -> None:
        self.origin = asyncio.get_running_loop().time()
        self._file: BinaryIO | None = None

    def open(self, path: Path | None) -> None:
        if path is None:
            return
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise InputError(f"--records {path}: cannot be written: {error.strerror}") from error

    def add(self, row: Record) -> None:
        if self._file is None:
            return
        try:
            self._file.write(msgspec.json.encode(moved(row, -self.origin)) + b"\n")
        except OSError as error:  # no request shall fail for it
            _LOG.error("records end here: %s", error.strerror)
            self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
