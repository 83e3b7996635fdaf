"""Runs the mock as a process of its own: one line when it is ready, a clean end on a signal."""

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from mock_llm.config import Profile, Upstream
from mock_llm.control.access import Access
from mock_llm.control.watch import Tell, attended
from mock_llm.errors import InputError
from mock_llm.server import MockServer


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
    access: Access | None = None,
    quiet: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, then return; all rows are in the ledger's file by then.

    Prints `mock_llm listening on http://HOST:PORT/api/v1` once requests can come, then how to
    control it. Warnings and a summary go to stderr.

    Args:
        upstream: the provider to imitate.
        host: address to listen on.
        port: 0 for any free one.
        seed: of all the weather.
        ledger_file: every row is appended to it as it ends (JSONL).
        answers: the right label of a request, by request key.
        zero_delay: answers are ready at once; see `instant`.
        access: who may control it; None: nobody, and the pages of control are not there.
        quiet: no warnings and no summary.

    Raises:
        InputError: the address cannot be had, or the ledger's file cannot be written.
    """
    server = MockServer(
        instant(upstream) if zero_delay else upstream,
        seed=seed,
        answers=answers,
        ledger_file=ledger_file,
        transit=not zero_delay,
    )
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(server, host, port, access, None if quiet else _tell))


async def _serve(
    server: MockServer, host: str, port: int, access: Access | None, tell: Tell | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with attended(server, access, tell):
        try:
            bound = await _listen(server, host, port)
            shown = f"[{host}]" if ":" in host else host
            url = f"http://{shown}:{bound}/api/v1"
            more = access.lines(url) if access else []
            sys.stdout.write("\n".join([f"mock_llm listening on {url}", *more, ""]))
            sys.stdout.flush()
            await stop.wait()
        finally:
            await server.close()


def _tell(line: str) -> None:
    sys.stderr.write(f"mock_llm: {line}\n")
    sys.stderr.flush()


async def _listen(server: MockServer, host: str, port: int) -> int:
    try:
        return await server.start(host, port)
    except OSError as error:
        why = f"{error}; choose another host or port"
        raise InputError(f"cannot listen on {host}:{port}: {why}") from error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def instant(upstream: Upstream) -> Upstream:
    """The same upstream with every answer ready at once: only the server's own time is left."""
    models = {
        slug: msgspec.structs.replace(model, profile=model.profile and _instant(model.profile))
        for slug, model in upstream.models.items()
    }
    return msgspec.structs.replace(
        upstream, profile=_instant(upstream.profile), models=models, connection_setup=0.0
    )


def _instant(profile: Profile) -> Profile:
    return msgspec.structs.replace(
        profile, ttft=0.0, itl=0.0, prefill_s_per_1k=0.0, cold_start=None
    )


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
