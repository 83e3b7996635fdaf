"""The commands around cassettes: `record`, `fit`, and the options with which `serve` replays."""

import argparse
import asyncio
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from mock_llm.budget import Budget
from mock_llm.cassette import CassetteWriter, read_cassette
from mock_llm.config import Recordings, Upstream
from mock_llm.errors import InputError
from mock_llm.fit import fitted
from mock_llm.record import Recorder, checked_upstream, tls
from mock_llm.serve import listening, tell_stderr, when_told

Options = argparse.Namespace


def add_commands(commands: "argparse._SubParsersAction[Any]", port: Callable[[str], int]) -> None:
    """Add `record` and `fit` to the command line; each sets `run`.

    Args:
        commands: of the parser.
        port: reads a port.
    """
    command = commands.add_parser(
        "record", help="pass calls on to a real endpoint and record them", allow_abbrev=False
    )
    add = command.add_argument
    add("--upstream", required=True, help="address of the API, https://openrouter.ai/api/v1")
    add("--cassette", required=True, type=Path, help="file to begin or to continue")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=port, default=8000, help="0 for any free one")
    add("--ca", type=Path, help="certificates of a private authority (PEM)")
    add("--key-env", metavar="NAME", help="environment variable with the API key")
    add("--max-requests", type=_calls, help="refuse to pass on more calls")
    add("--max-usd", type=_dollars, help="refuse once answers have cost so much")
    command.set_defaults(run=_record)
    command = commands.add_parser("fit", help="print a scenario that is as fast as a cassette")
    command.add_argument("file", type=Path, help="the cassette")
    command.set_defaults(run=_fit)


def add_replay(command: argparse.ArgumentParser) -> None:
    """Add the options of a replay to `serve`."""
    timings, misses = ("recorded", "none", "sampled"), ("error", "mock")
    command.add_argument("--cassette", type=Path, help="answer as recorded there")
    command.add_argument("--timing", choices=timings, help="of recordings; recorded")
    command.add_argument("--on-miss", choices=misses, help="not recorded; error")


def replaying(upstream: Upstream, options: Options) -> Upstream:
    """The same upstream, with the cassette that `serve` was given, if it was.

    Raises:
        InputError: an option of a replay was given, and no cassette.
    """
    if options.cassette is None:
        if options.timing or options.on_miss:
            name = "--timing" if options.timing else "--on-miss"
            raise InputError(f"{name} says how a cassette is replayed: give --cassette too")
        return upstream
    playback = Recordings(
        file=str(options.cassette),
        timing=options.timing or "recorded",
        on_miss=options.on_miss or "error",
    )
    return replace(upstream, cassette=playback)


def _calls(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a number of calls: give a whole one")
    return int(text)


def _dollars(text: str) -> float:
    try:
        usd = float(text)
    except ValueError:
        usd = math.nan
    if not 0 <= usd < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a sum in dollars, such as 0.50")
    return usd


def _fit(options: Options) -> None:
    cassette = read_cassette(options.file)
    if cassette.warning:
        tell_stderr(cassette.warning)
    sys.stdout.write(fitted(cassette))


def _record(options: Options) -> None:
    upstream = checked_upstream(options.upstream)
    budget = Budget(options.max_requests, options.max_usd)
    key, trust = _key(options.key_env), tls(options.ca)
    broken: list[InputError] = []
    stop = asyncio.Event()

    def give_up(error: InputError) -> None:
        broken.append(error)
        stop.set()

    writer = CassetteWriter(options.cassette, upstream)
    if writer.warning:
        tell_stderr(writer.warning)
    recorder = Recorder(upstream, writer, budget, trust=trust, key=key, on_broken=give_up)
    with asyncio.Runner() as runner:
        runner.run(_serve(recorder, options.host, options.port, stop))
    tell_stderr(f"passed on {budget.requests} requests, answers cost ${budget.usd:.6f}")
    if broken:
        raise broken[0]


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable() or not key:
        raise InputError(f"--key-env: the variable {variable} holds no key")
    return key


async def _serve(recorder: Recorder, host: str, port: int, stop: asyncio.Event) -> None:
    when_told(stop.set)
    try:
        with listening((host, port)):
            bound = await recorder.start(host, port)
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"mock_llm recording on http://{shown}:{bound}/api/v1\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        await recorder.close()
