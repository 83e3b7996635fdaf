"""Where a run keeps its journal, and which run it is of."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from harness.engines.base import Prepared
from harness.errors import InputError
from harness.pipeline.journal import Header, Journal, Replayed

NAME = "journal.jsonl"


def place_of(folder: Path, variant: str, engine: str, seed: int) -> Path:
    """The folder of one run."""
    return folder / f"{variant}-{engine}-{seed}"


def check_journals(
    places: Sequence[Path], prepared: Sequence[Prepared], *, resume: bool, real: bool
) -> None:
    """Whether there is something to be gone on with, or nothing that must be.

    Args:
        places: the folders of the runs.
        prepared: what is run: only a batch has a journal.
        resume: they are to be gone on with.
        real: calls are paid for: what was is not thrown away.

    Raises:
        InputError: it is not so.
    """
    kinds = {ready.scenario.workload.kind for ready in prepared} - {"batch"}
    if resume and kinds:
        raise InputError(f'--resume: only a batch is gone on with, not "{min(kinds)}"')
    found = [place / NAME for place in places if (place / NAME).exists()]
    if resume and not found:
        where = places[0].parent if places else "."
        raise InputError(f"--resume: there is no journal in {where}: run it without --resume")
    if real and found and not resume:
        raise InputError(
            f"{found[0]}: calls of an earlier run that were paid for: go on with --resume, or "
            "begin anew with another --out"
        )


def header_of(
    prepared: Prepared, *, variant: str, engine: str, seed: int, endpoint: str = ""
) -> Header:
    """What a journal must be of to be gone on with.

    A budget may be raised in between: going on when one has stopped a run is what it is for.
    """
    scenario = prepared.scenario
    settings = msgspec.structs.replace(scenario.pipeline, budget=None)
    return Header(
        version=product_version(),
        engine=engine,
        variant=variant,
        seed=seed,
        scenario=digest_of([scenario.workload, scenario.upstream, settings]),
        corpus=digest_of(prepared.corpus.reviews),
        endpoint=endpoint,
    )


def open_journal(place: Path, header: Header, *, resume: bool, real: bool = False) -> Replayed:
    """The journal of a run in its folder: that of the run to be gone on with, or a new one.

    Args:
        place: the folder.
        header: of the run.
        resume: go on with what is there.
        real: calls are paid for: each line of a beginning waits for the disk.

    Raises:
        InputError: see `Journal.open` and `Journal.resume`.
    """
    path = place / NAME
    if resume and path.exists():
        return Journal.resume(path, header, fsync=real)
    return Replayed(journal=Journal.open(path, header, fsync=real))


def digest_of(value: object) -> str:
    """A short name for what can be written as JSON: the same for the same, whatever its order."""
    data = msgspec.json.encode(value, order="deterministic")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def product_version() -> str:
    """Of this product, as it is installed."""
    try:
        return version("llm-flight-simulator")
    except PackageNotFoundError:  # run from a folder, without being installed
        return "unknown"
