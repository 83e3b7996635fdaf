"""`harness serve`: the pipeline as a service that people and programs ask over HTTP."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.real import DEFAULT_KEY, endpoint_at
from harness.cli.run import Sets
from harness.engines.real import Endpoint
from harness.engines.serving import Serving
from harness.engines.serving import serve as run_service
from harness.errors import InputError
from harness.experiments.run import prepare_variant
from harness.pipeline.service.logs import logging_to
from harness.places import check_file
from harness.scenario.load import BASE, ScenarioFile, load_defaults, load_file


def serve(
    scenario: Annotated[Path | None, typer.Argument(help="Scenario file (TOML).")] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    upstream_url: Annotated[
        str | None, typer.Option(help="A provider's base URL; else a mock of its own.")
    ] = None,
    key_env: Annotated[
        str, typer.Option(help="Environment variable with the provider's key.")
    ] = DEFAULT_KEY,
    variant: Annotated[str, typer.Option(help="A variant of the scenario.")] = BASE,
    sets: Sets = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the weather; default: the scenario's.")
    ] = None,
    drain: Annotated[
        float, typer.Option(min=0, max=86_400, help="Seconds for what is under way at the end.")
    ] = 30.0,
    redis_url: Annotated[
        str | None, typer.Option(help="Sets pipeline.redis_url, shared by several processes.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="Trust these authorities only (PEM), for the provider.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="Append the log there (JSON lines); else standard error.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No log.")] = False,
    records: Annotated[
        Path | None, typer.Option(help="Write every HTTP call there (JSONL).")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Outlives the process; the next one goes on with it.")
    ] = None,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", help="Stop when standard input ends, as with a pipe's.")
    ] = False,
) -> int:
    """Serve reviews at http://HOST:PORT until SIGTERM or Ctrl-C."""
    shared = [] if redis_url is None else [f"pipeline.redis_url={json.dumps(redis_url)}"]
    overrides = [*(sets or []), *shared]
    file = _file(scenario, overrides, variant)
    endpoint = _endpoint(upstream_url, key_env, ca_file)
    for option, path in (("--records", records), ("--log", log)):
        if path is not None:
            check_file(option, str(path))
    prepared = prepare_variant(file, variant, None if scenario is None else scenario.parent)
    with _logging(log, quiet=quiet) as logger:
        serving = Serving(
            prepared=prepared,
            host=host,
            port=port,
            seed=file.written.seed if seed is None else seed,
            endpoint=endpoint,
            drain_s=drain,
            log=logger,
            records=records,
            journal=journal,
            until_eof=0 if until_eof else None,
        )
        return run_service(serving, _tell)


def _endpoint(url: str | None, key_env: str, ca_file: Path | None) -> Endpoint | None:
    """The provider; None: a mock of our own.

    Raises:
        InputError: see `endpoint_at`.
    """
    if url is not None:
        return endpoint_at("--upstream-url", url, key_env, ca_file)
    if ca_file is not None:
        raise InputError("--ca-file: for --upstream-url only")
    return None


@contextmanager
def _logging(path: Path | None, *, quiet: bool) -> Iterator[logging.Logger | None]:
    """The service's log, or none; its file is closed at the end."""
    if quiet:
        yield None
    elif path is None:
        with logging_to(sys.stderr) as logger:
            yield logger
    else:
        try:
            file = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise InputError(f"--log {path}: cannot be written: {error.strerror}") from error
        with file, logging_to(file) as logger:
            yield logger


def _file(scenario: Path | None, overrides: list[str], variant: str) -> ScenarioFile:
    if scenario is None:
        return load_defaults(overrides, variant)
    return load_file(scenario, overrides, variant)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
