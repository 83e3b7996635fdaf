"""`harness run --engine real`: what must be known and agreed to before money is spent."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from harness.engines.base import Prepared
from harness.engines.real import Endpoint, checked_address, introduced, worst_of
from harness.errors import InputError
from harness.experiments.run import REAL
from harness.pipeline.secret import Secret
from harness.report.text import usd

DEFAULT_URL = "https://openrouter.ai/api/v1"
DEFAULT_KEY = "OPENROUTER_API_KEY"

BaseUrl = Annotated[str | None, typer.Option(help=f"real: address of the API; else {DEFAULT_URL}.")]
KeyEnv = Annotated[
    str | None,
    typer.Option(help=f"real: environment variable with the key; else {DEFAULT_KEY}."),
]
CaFile = Annotated[
    Path | None, typer.Option(help="real: trust this private authority (PEM), and no other.")
]
Yes = Annotated[bool, typer.Option("--yes", help="real: spend without being asked.")]
MaxUsd = Annotated[
    float | None, typer.Option(help="real: hard cap, dollars; sets pipeline.budget.run_usd.")
]
MaxCalls = Annotated[
    int | None, typer.Option(help="real: hard cap, calls; sets pipeline.budget.calls.")
]


class Options(msgspec.Struct, frozen=True):
    """What the command line says of a real endpoint."""

    base_url: str | None
    key_env: str | None
    ca_file: Path | None
    yes: bool
    max_usd: float | None
    max_calls: int | None

    @property
    def overrides(self) -> list[str]:
        """The caps, as `--set` would set them."""
        found = []
        if self.max_usd is not None:
            found.append(f"pipeline.budget.run_usd={self.max_usd!r}")
        if self.max_calls is not None:
            found.append(f"pipeline.budget.calls={self.max_calls}")
        return found

    def endpoint(self, engine: str) -> Endpoint | None:
        """Where a real engine sends its calls; None of any other.

        Raises:
            InputError: see `endpoint_of`; or an option means nothing to that engine.
        """
        if engine == REAL:
            return endpoint_of(self)
        for name in self.__struct_fields__:
            if getattr(self, name) not in {None, False}:
                option = "--" + name.replace("_", "-")
                raise InputError(f"{option}: for --engine real only: the others cost nothing")
        return None


def endpoint_of(options: Options) -> Endpoint:
    """The endpoint, its key from the environment.

    Raises:
        InputError: no address, no key, or one that cannot be a header.
    """
    url = options.base_url or DEFAULT_URL
    return endpoint_at("--base-url", url, options.key_env or DEFAULT_KEY, options.ca_file)


def endpoint_at(option: str, url: str, variable: str, ca_file: Path | None) -> Endpoint:
    """The endpoint that an option names, its key from the environment.

    Raises:
        InputError: no address, no key, or one that cannot be a header.
    """
    address = checked_address(option, url)
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InputError(f"{variable} is not set: put the key there, or name one with --key-env")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InputError(f"{variable}: is no key: it has characters that no header can have")
    return Endpoint(base_url=address, key=Secret(key), ca_file=ca_file)


def check_plan(prepared: Sequence[Prepared], runs: int) -> None:
    """One run at a time, and never without hard caps.

    Raises:
        InputError: there are several, or a cap is missing; or it is no batch.
    """
    if runs != 1:
        raise InputError("--engine real: one run at a time: name one with --variant, without seeds")
    (ready,) = prepared
    if ready.scenario.workload.kind != "batch":
        raise InputError(f'--engine real: takes a batch, not "{ready.scenario.workload.kind}"')
    budget = ready.scenario.pipeline.budget
    if budget is None or budget.run_usd is None:
        raise InputError("--engine real: needs a hard cap: --max-usd, or pipeline.budget.run_usd")
    if budget.calls is None:
        raise InputError("--engine real: needs a hard cap: --max-calls, or pipeline.budget.calls")


def agreed(console: Console, ready: Prepared, endpoint: Endpoint, *, yes: bool) -> Prepared:
    """Tell what it may cost, and ask; returns the work at the endpoint's prices.

    Raises:
        InputError: the endpoint cannot be used, the cap is too small for one call, or there is
            nobody to ask.
        typer.Abort: the answer is no.
    """
    ready, notes = introduced(ready, endpoint)
    worst, budget = worst_of(ready), ready.scenario.pipeline.budget
    if budget is None or budget.run_usd is None:
        raise InputError("--engine real: needs a hard cap: --max-usd, or pipeline.budget.run_usd")
    console.print(
        f"at {escape(endpoint.base_url)}: {usd(worst.requests_usd)} if every call costs all it can "
        f"and none is retried, a call at most {usd(worst.call_usd)}; "
        f"hard caps {usd(budget.run_usd)} and {budget.calls:,} calls"
    )
    for note in notes:
        console.print(f"[yellow]{escape(note)}[/]")
    if worst.call_usd > budget.run_usd:
        raise InputError(f"--max-usd {budget.run_usd:g}: not enough for the worst case of one call")
    if yes:
        return ready
    if not sys.stdin.isatty():
        raise InputError("--engine real: spends real money: say --yes where nobody can be asked")
    typer.confirm(f"Spend up to {usd(budget.run_usd)}?", abort=True, err=True)
    return ready
