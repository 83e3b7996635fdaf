"""The command line: the only place that prints, exits or reads the environment."""

import sys

import typer
from typer.exceptions import TyperException

from harness.cli.agree import agree
from harness.cli.alerts import alerts
from harness.cli.corpus import corpus
from harness.cli.gate import gate
from harness.cli.lint import lint
from harness.cli.mock import mock
from harness.cli.plan import plan_command
from harness.cli.progressive import progressive
from harness.cli.report import compare, report
from harness.cli.run import run
from harness.cli.schema import schema
from harness.cli.serve import serve
from harness.errors import InputError

app = typer.Typer(
    name="harness",
    help="A flight simulator for LLM pipelines: see them fail before you pay for it.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(run)
app.command("plan")(plan_command)
app.command()(progressive)
app.command()(agree)
app.command()(gate)
app.command()(report)
app.command()(compare)
app.command()(lint)
app.command()(corpus)
app.command()(mock)
app.command()(schema)
app.command()(serve)
app.command()(alerts)

BAD_INPUT = 2
INTERRUPTED = 130


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except InputError as error:
        code = _complain(str(error))
    except TyperException as error:
        code = _complain(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    raise SystemExit(code or 0)


def _complain(message: str) -> int:
    line = " ".join(message.split())
    if line:  # without any arguments the help was told instead
        sys.stderr.write(f"harness: {line}\n")
    return BAD_INPUT
