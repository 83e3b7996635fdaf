"""Runs that were written down, read again: the folder of one, or the JSON of several."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from harness.errors import InputError
from harness.records import Record, read_jsonl, records_sha256, requests


class _Report(msgspec.Struct):
    """What tells a run's report from other JSON, whatever engine it is of."""

    scenario: str
    variant: str
    engine: str
    seed: int
    valid: bool
    invalid_reasons: list[str]
    latency_s: dict[str, float | None]
    verdicts: dict[str, int]
    slo: dict[str, Any]
    records_sha256: str | None


class Kept(msgspec.Struct, frozen=True):
    """What a RUN of the command line names.

    Attributes:
        where: as it was named.
        runs: reports, one at least.
        agreement: of engines, or of a load test with its prediction.
        folder: of the only run, where its rows are; None: there are figures only.
    """

    where: Path
    runs: list[dict[str, Any]]
    agreement: list[dict[str, Any]]
    folder: Path | None = None


class Lived(NamedTuple):
    """What became of one request: when it was to begin, how long it took and what it cost."""

    t_intended: float
    latency_s: float
    cost_usd: float


def read_runs(path: Path) -> Kept:
    """Runs in a folder that `harness run` or a load test has made, or in a file of `--json`.

    Raises:
        InputError: there are none, or they are torn.
    """
    if path.is_dir() and not (path / "run.json").exists():
        inner = sorted(one.parent.name for one in path.glob("*/run.json"))
        why = (
            f"it has {len(inner)} runs in it: name one, such as {path / inner[0]}" if inner else ""
        )
        raise InputError(f"{path}: {why or 'has no run.json: no run, or one that never ended'}")
    file = path / "run.json" if path.is_dir() else path
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{file}: torn, or no JSON: {error}: run it once more") from error
    several = isinstance(found, dict) and "runs" in found
    runs = found["runs"] if several else [found]
    try:
        if not msgspec.convert(runs, list[_Report]):
            raise InputError(f"{file}: has no runs in it")
    except msgspec.ValidationError as error:
        raise InputError(f"{file}: is not of a run of this version: {error}") from error
    agreement = (found.get("agreement") or []) if several else []
    return Kept(path, runs, agreement, None if several else file.parent)


def requests_of(kept: Kept) -> Mapping[str, Lived] | None:
    """What became of each request of a run, by key; None: only figures of it were kept.

    Raises:
        InputError: its rows are missing, torn, or of another run.
    """
    if kept.folder is None or kept.runs[0]["records_sha256"] is None:
        return None
    place = kept.folder / "records.jsonl"
    try:
        rows = read_jsonl(place)
        ends = _users_ends(kept.folder / "asked.jsonl")
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise InputError(f"{kept.folder}: has rows that are torn: {error}") from error
    if records_sha256(rows) != kept.runs[0]["records_sha256"]:
        raise InputError(f"{place}: is not of the same run as run.json beside it")
    return {one[0].key: _lived(one, ends) for one in requests(rows)}


def _lived(rows: Sequence[Record], ends: Mapping[str, float]) -> Lived:
    last = rows[-1]
    took_s = ends.get(last.key, last.t_end) - last.t_intended
    return Lived(last.t_intended, took_s, sum(row.cost_usd for row in rows))


def _users_ends(path: Path) -> dict[str, float]:
    """When the users of a load test had their answers; of other runs the rows tell it."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    asked = [msgspec.json.decode(line, type=dict[str, Any]) for line in lines]
    return {one["key"]: one["t_end"] for one in asked}
