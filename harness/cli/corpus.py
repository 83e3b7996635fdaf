"""`harness corpus`: what a corpus is like, before anything is run on it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from harness.corpus import describe, load_corpus
from harness.engines.base import CORPUS_SEED


def corpus(
    file: Annotated[str, typer.Argument(help="CSV or JSONL, synthetic[:CATEGORY], templates8.")],
    reviews: Annotated[
        int | None, typer.Option(help="Read so many; default: all, or 1,000.")
    ] = None,
) -> int:
    """Describe a corpus: size, lengths, labels, repeats, and whether it looks generated."""
    named = not Path(file).suffix
    count = reviews if reviews is not None or not named else 1000
    found = load_corpus(file, count=count, seed=CORPUS_SEED)
    console = Console(highlight=False)
    table = Table(show_header=False)
    for name, value in describe(found).items():
        table.add_row(name, f"{value:,.4g}" if isinstance(value, float) else str(value))
    console.print(table)
    for text in (*found.guards.warnings, *found.notes):
        console.print(f"[yellow]{text}[/]")
    return 0
