"""The `sim` engine: a prepared scenario, simulated event by event."""

import time
from collections.abc import Iterator

from harness.engines.base import EngineResult, OnProgress, Prepared, Target, toolkit
from harness.engines.runner import interruptible, result_of
from harness.engines.twin.job import TwinJob
from harness.engines.twin.service import TwinCallers
from harness.engines.virtual import waiting
from harness.errors import InputError
from harness.pipeline.journal import Replayed
from mock_llm.faults import DnsFailure


def run_in_twin(
    prepared: Prepared,
    *,
    seed: int,
    target: Target | None = None,
    on_progress: OnProgress | None = None,
    replayed: Replayed | None = None,
) -> EngineResult:
    """Simulate a prepared scenario; see `engines.base.Engine`.

    Raises:
        InputError: it has what the twin does not model.
    """
    missing = next(_not_modelled(prepared), None)
    if target is not None:
        missing = "a client of your own, which needs sockets"
    if replayed is not None:
        missing = "a run to be resumed; a simulation takes no time, begin anew"
    if missing is not None:
        raise InputError(f"--engine sim: does not model {missing}; --engine virtual does")
    began = time.perf_counter()
    job: TwinJob | TwinCallers
    if prepared.scenario.workload.kind == "batch":
        job = TwinJob(prepared, toolkit(prepared, seed, "", on_progress), seed)
    else:
        job = TwinCallers(prepared, seed, on_progress)
    with interruptible(job.clock, job):
        job.fly()
    wall_s = time.perf_counter() - began
    invalid: tuple[str, ...] = ()
    if job.stopped == "never_answered":
        invalid = (f"nothing can ever wake again: {waiting(job.records)}",)
    return result_of(job, tuple, wall_s, invalid)


def _not_modelled(prepared: Prepared) -> Iterator[str]:
    """What a scenario has and the twin has not."""
    settings, upstream = prepared.scenario.pipeline, prepared.scenario.upstream
    if settings.redis_url is not None:
        yield "pipeline.redis_url"
    if prepared.scenario.workload.mix is not None:
        yield "workload.mix"
    if upstream.cassette is not None:
        yield "upstream.cassette"
    if upstream.keys:
        yield "upstream.keys"
    for name, fault in upstream.faults.items():
        if isinstance(fault, DnsFailure):
            yield f"upstream.faults.{name}"
