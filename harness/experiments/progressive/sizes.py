"""Size after size, and the rules by which it ends before the last."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from harness.engines.base import OnProgress, Prepared
from harness.engines.real import Endpoint
from harness.errors import InputError
from harness.experiments.progressive.forecast import Forecast, forecast
from harness.experiments.run import Run, run_and_save
from harness.report.text import length, usd
from harness.scenario.workload import MOST


class Stops(msgspec.Struct, frozen=True, kw_only=True):
    """When not to go on.

    Attributes:
        usd: for all sizes together; None: no limit.
        deadline_s: of a single job; None: none.
    """

    usd: float | None = None
    deadline_s: float | None = None


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How every size is run.

    Attributes:
        variant: its name.
        engine: which one runs it.
        seed: of the weather.
        folder: of the runs: each size has one of its own in it.
        resume: go on with sizes that were broken off: what was paid for is not paid again.
        endpoint: of the `real` engine.
    """

    variant: str
    engine: str
    seed: int
    folder: Path
    resume: bool = False
    endpoint: Endpoint | None = None

    def folder_of(self, prepared: Prepared) -> Path:
        """Where the run of a size is kept."""
        return self.folder / f"progressive-{len(prepared.items)}"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One size and what became of it.

    Attributes:
        prepared: its work, with the projection that was made before any call.
        run: None where it was not run.
        why: it is not ready, or was not run; "" where it is ready.
    """

    prepared: Prepared
    run: Run | None = None
    why: str = ""

    @property
    def reviews(self) -> int:
        """Its size."""
        return len(self.prepared.items)

    @property
    def ready(self) -> bool:
        """Whether a job of this size keeps its promises."""
        return self.run is not None and not self.why


def progress(
    plan: Sequence[Prepared],
    manner: Manner,
    stops: Stops,
    watch: Callable[[], OnProgress] | None = None,
) -> Iterator[Step]:
    """Run size after size until one fails, or the next would break a rule; each is given at once.

    Args:
        plan: the work of each size, growing.
        manner: how each is run.
        stops: the rules, beside the scenario's own promises.
        watch: gives for each size what is called at the end of each of its batches.

    Raises:
        InputError: see `run_and_save`.
    """
    spent, last = 0.0, None
    for at, prepared in enumerate(plan):
        why = _forbids(prepared, stops, spent, last)
        if not why:
            step = _flown(prepared, manner, watch() if watch else None)
            run = step.run
            yield step
            if step.ready and run is not None:
                spent, last = spent + run.report["cost_usd"], run
                continue
            why = f"{step.reviews:,} was not ready"
        else:
            yield Step(prepared=prepared, why=why)
        yield from (Step(prepared=rest, why=why) for rest in plan[at + 1 :])
        return


def _flown(prepared: Prepared, manner: Manner, told: OnProgress | None) -> Step:
    run = run_and_save(
        prepared,
        manner.folder_of(prepared),
        variant=manner.variant,
        expect="pass",
        engine=manner.engine,
        seed=manner.seed,
        on_progress=told,
        resume=manner.resume,
        endpoint=manner.endpoint,
    )
    return Step(prepared=prepared, run=run, why=_shortfall(run))


def _forbids(prepared: Prepared, stops: Stops, spent: float, last: Run | None) -> str:
    """Why a size must not be begun; "" when it may."""
    needed = prepared.projection.cost_usd
    if stops.usd is not None and spent + needed > stops.usd:
        already = f" and {usd(spent)} are spent" if spent else ""
        return f"budget: it would cost {usd(needed)}{already}, of {usd(stops.usd)}"
    limit = stops.deadline_s or prepared.scenario.pipeline.job_deadline_s
    if last is not None and limit is not None:
        (told, *_), _ = forecasts(last, [len(prepared.items)])
        if told.duration_s.low > limit:
            shortest = length(told.duration_s.low)
            return f"deadline: it would take {shortest} at least, of {length(limit)}"
    return ""


def _shortfall(run: Run) -> str:
    """Why a run is not good enough for the next size; "" when it is."""
    report = run.report
    if not report["valid"]:
        return "invalid: " + "; ".join(report["invalid_reasons"])
    if run.result.stopped is not None:
        return f"stopped: {run.result.stopped.replace('_', ' ')}"
    missed = [check for check in report["slo"]["checks"] if not check["passed"]]
    return "; ".join(
        f"SLO missed: {check['metric']} {check['bound']} ({_value(check['value'])})"
        for check in missed
    )


def _value(value: float | None) -> str:
    return "nothing measured" if value is None else f"{value:.4g}"


def forecasts(run: Run, sizes: Sequence[int]) -> tuple[list[Forecast], int]:
    """What a run says of other sizes; see `forecast`."""
    settings = run.prepared.scenario.pipeline
    batch = settings.batch_size if settings.barrier and settings.batch_size else 1
    return forecast(run.result.records, sizes, batch_size=batch)


def check_sizes(text: str) -> list[int]:
    """The sizes of `--sizes 100,500,1000`.

    Raises:
        InputError: they are none, or do not grow.
    """
    parts = [part.strip().replace("_", "") for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise InputError(f"--sizes {text}: write numbers of reviews, such as 100,500,1000")
    sizes = [int(part) for part in parts]
    if any(b <= a for a, b in pairwise(sizes)):
        raise InputError(f"--sizes {text}: each must be greater than the one before")
    if sizes[-1] > MOST:
        raise InputError(f"--sizes {text}: {MOST:,} are the most")
    return sizes
