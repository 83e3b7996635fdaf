"""What the virtual engine says of the world that a load test flew, and whether the two agree.

Theory of operation. The same scenario is run on the virtual clock with the load test's own seed and
those that follow it: the same users, keys and think times, and for its own seed the same weather.
One live run is one more run of that kind. So what its figure must lie in is the interval for a
further run, s t sqrt(1 + 1/n) on both sides of the mean (Hahn and Meeker, Statistical Intervals,
1991, chapter 4), and not that for the mean, which misses two of five further runs of eight, were
they the same to the last digit. Both are told, and the difference from the run of the same seed,
which shares its chance: that is the sharpest of the three.
"""

import atexit
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from harness.engines.child import child_process
from harness.errors import InputError
from harness.statistics import interval
from loadtests.stack import HARNESS, Choice

WIDER_S = 0.005
"""Granted to the live run: on the virtual clock nothing costs time but waiting."""
FIGURES = ("latency_s.mean", "latency_s.p95")


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of a live run against the same of the virtual ones.

    Attributes:
        figure: dotted path into a run's report.
        live: seconds.
        mean: over the virtual runs.
        half_width: of the 95 % interval for the mean, not widened.
        low: least that one further run may have, widened.
        high: most that it may have, widened.
        inside: the live run is in there.
        inside_mean: it is in the interval for the mean as well, widened.
        same_seed: of the virtual run with the live one's weather.
        n: virtual runs.
    """

    figure: str
    live: float
    mean: float
    half_width: float
    low: float
    high: float
    inside: bool
    inside_mean: bool
    same_seed: float
    n: int


def agreement(
    figure: str, live: float, virtual: Sequence[float], wider_s: float = WIDER_S
) -> Agreement:
    """Hold a live figure against those of virtual runs, the first of which has its seed."""
    found = interval(virtual)
    one_more = found.half_width * math.sqrt(found.n + 1) + wider_s
    return Agreement(
        figure=figure,
        live=live,
        mean=found.mean,
        half_width=found.half_width,
        low=found.mean - one_more,
        high=found.mean + one_more,
        inside=abs(live - found.mean) <= one_more,
        inside_mean=abs(live - found.mean) <= found.half_width + wider_s,
        same_seed=virtual[0],
        n=found.n,
    )


def agreements(live: Mapping[str, Any], virtual: Sequence[Mapping[str, Any]]) -> list[Agreement]:
    """Every figure that is compared, of a live run's report and those of the virtual runs."""
    return [
        agreement(figure, _at(live, figure), [_at(one, figure) for one in virtual])
        for figure in FIGURES
    ]


def predicted(choice: Choice, count: int, processes: "list[Popen[str]]") -> list[Any]:
    """Reports of so many runs on the virtual clock, made in processes of their own.

    Args:
        choice: what has been flown.
        count: of runs.
        processes: that make them are added to these; whoever kills them breaks it off.

    Raises:
        InputError: one of them did not come to its end.
    """
    seeds = range(choice.seed, choice.seed + count)
    each = math.ceil(count / (os.cpu_count() or 1))
    parts = [seeds[at : at + each] for at in range(0, count, each)]
    with TemporaryDirectory(prefix="loadtest-prediction-") as folder, ExitStack() as held:
        for part in parts:
            command = _command(choice, part, Path(folder))
            place = child_process(command, errors=Path(folder, f"{part[0]}.log"))
            processes.append(held.enter_context(place))
            atexit.register(processes[-1].kill)  # Locust ends without leaving its greenlets
        return [
            run
            for part, process in zip(parts, processes, strict=True)
            for run in _runs(part, process, Path(folder))
        ]


def _command(choice: Choice, seeds: range, folder: Path) -> list[str]:
    command = [*HARNESS, "run", str(choice.path), "--engine", "virtual"]
    command += ["--variant", choice.variant, "--seeds", f"{seeds[0]}-{seeds[-1]}"]
    command += [word for one in choice.sets for word in ("--set", one)]
    return [*command, "--out", str(folder / "runs"), "--json", str(folder / f"{seeds[0]}.json")]


def _runs(seeds: range, process: "Popen[str]", folder: Path) -> list[Any]:
    process.communicate()
    try:
        found = json.loads((folder / f"{seeds[0]}.json").read_bytes())["runs"]
    except FileNotFoundError:
        said = (folder / f"{seeds[0]}.log").read_text("utf-8", "replace").strip().splitlines()
        raise InputError(f"--predict: {said[-1] if said else 'it said nothing'}") from None
    return list(found)


def _at(report: Mapping[str, Any], path: str) -> float:
    value: Any = report
    for part in path.split("."):
        value = value[part]
    return float(value)
