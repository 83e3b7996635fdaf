"""`harness mock`: the stand-in for OpenRouter by itself."""

from pathlib import Path
from typing import Annotated

import typer

from mock_llm.config import Upstream
from mock_llm.control.access import Access
from mock_llm.loader import load_upstream
from mock_llm.serve import MOST_WORKERS, serve


def mock(
    scenario: Annotated[Path | None, typer.Argument(help="Scenario file (TOML).")] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    seed: Annotated[int, typer.Option(help="Seed of the weather.")] = 1,
    ledger: Annotated[Path | None, typer.Option(help="Append every attempt there (JSONL).")] = None,
    zero_delay: Annotated[bool, typer.Option("--zero-delay", help="Answer at once.")] = False,
    workers: Annotated[
        int, typer.Option(min=1, max=MOST_WORKERS, help="Processes that serve as one.")
    ] = 1,
    no_control: Annotated[
        bool, typer.Option("--no-control", help="No /__control, /__dashboard and /metrics.")
    ] = False,
    control_anywhere: Annotated[
        bool, typer.Option("--control-anywhere", help="Control from other machines too.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No warnings and no summary.")] = False,
) -> int:
    """Serve a mock OpenRouter at http://HOST:PORT/api/v1."""
    upstream = load_upstream(scenario) if scenario else Upstream()
    return serve(
        upstream,
        host=host,
        port=port,
        seed=seed,
        ledger_file=ledger,
        zero_delay=zero_delay,
        workers=workers,
        access=None if no_control else Access.from_environment(anywhere=control_anywhere),
        quiet=quiet,
    )
