"""`python -m mock_llm serve [SCENARIO]`: the mock alone; `record` and `fit` for cassettes."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mock_llm.cassette_cli import add_commands, add_replay, replaying
from mock_llm.config import Upstream
from mock_llm.control.access import Access
from mock_llm.errors import InputError
from mock_llm.loader import load_upstream
from mock_llm.serve import MOST_WORKERS, read_answers, serve


class _Parser(argparse.ArgumentParser):
    """One line for a bad argument, where argparse would print its usage too."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text} is not a port: give one of 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 1e9:
        raise argparse.ArgumentTypeError(f"{text} is no time: give seconds, such as 30")
    return seconds


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text} workers: give 1 to {MOST_WORKERS}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mock_llm", description="A stand-in for OpenRouter.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "serve", help="answer chat completions until stopped", allow_abbrev=False
    )
    command.add_argument("scenario", nargs="?", type=Path, help="file with an [upstream] table")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on")
    command.add_argument("--port", type=_port, default=8000, help="0 for any free one")
    command.add_argument("--seed", type=int, default=1, help="of all the weather")
    command.add_argument("--ledger", type=Path, help="append every attempt to this file (JSONL)")
    command.add_argument("--answers", type=Path, help="right labels: JSONL with key and label")
    command.add_argument("--zero-delay", action="store_true", help="answers are ready at once")
    command.add_argument(
        "--drain", type=_seconds, default=0.0, help="seconds for what is under way at the end"
    )
    command.add_argument(
        "--at-stop", choices=("finish", "break"), default="finish", help="how the rest ends"
    )
    command.add_argument("--workers", type=_workers, default=1, help="processes that serve as one")
    command.add_argument(
        "--until-eof", action="store_true", help="stop when standard input ends, as with a pipe's"
    )
    command.add_argument("--tls-cert", type=Path, help="speak HTTPS with this certificate (PEM)")
    command.add_argument("--tls-key", type=Path, help="the certificate's key (PEM, no password)")
    command.add_argument(
        "--no-control", action="store_true", help="no /__control, /__dashboard and /metrics"
    )
    command.add_argument(
        "--control-anywhere", action="store_true", help="control from other machines too"
    )
    command.add_argument("--quiet", action="store_true", help="no warnings and no summary")
    add_replay(command)
    add_commands(commands, _port)
    return parser


def _tls(options: argparse.Namespace) -> tuple[Path, Path] | None:
    if (options.tls_cert is None) != (options.tls_key is None):
        raise InputError("--tls-cert and --tls-key go together: give both")
    return (options.tls_cert, options.tls_key) if options.tls_cert else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 fine, 1 workers kept dying, 2 bad input."""
    options = _parser().parse_args(arguments)
    try:
        if run := getattr(options, "run", None):
            run(options)
            return 0
        upstream = load_upstream(options.scenario) if options.scenario else Upstream()
        return serve(
            replaying(upstream, options),
            host=options.host,
            port=options.port,
            seed=options.seed,
            ledger_file=options.ledger,
            answers=read_answers(options.answers) if options.answers else {},
            zero_delay=options.zero_delay,
            drain_s=options.drain,
            at_stop=options.at_stop,
            workers=options.workers,
            until_eof=0 if options.until_eof else None,
            tls=_tls(options),
            access=None
            if options.no_control
            else Access.from_environment(anywhere=options.control_anywhere),
            quiet=options.quiet,
        )
    except InputError as error:
        sys.stderr.write(f"mock_llm: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
