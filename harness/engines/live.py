"""The `live` engine: the same client on the wall clock, the mock in a process of its own."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from harness.engines.base import EngineResult, OnProgress, Prepared, Target
from harness.engines.certificate import Certificate, read_steal
from harness.engines.mock_process import mock_process
from harness.engines.runner import AnyJob, interruptible, job_of, result_of
from harness.engines.target import Span, TargetJob
from harness.engines.visitors import Visits
from harness.pipeline.job import Job
from harness.pipeline.journal import Replayed
from harness.pipeline.service.host import Host
from harness.pipeline.service.lag import LagMeter
from harness.records import moved
from mock_llm.ledger import Row
from mock_llm.network import absent


def run_live(
    prepared: Prepared,
    *,
    seed: int,
    target: Target | None = None,
    on_progress: OnProgress | None = None,
    replayed: Replayed | None = None,
) -> EngineResult:
    """Run a prepared scenario over loopback; see `engines.base.Engine`."""
    with TemporaryDirectory(prefix="harness-live-") as folder:
        ledger = Path(folder) / "ledger.jsonl"
        upstream, answers = prepared.scenario.upstream, prepared.answer_key
        with mock_process(upstream, seed=seed, answers=answers, ledger=ledger) as mock:
            began = time.perf_counter()
            steal = read_steal()
            job = job_of(prepared, seed, mock.url, target, on_progress, _open_door, replayed)
            origin, lag = _run(job)
            wall_s = time.perf_counter() - began
            steal_share = read_steal().share_since(steal)
        rows = [msgspec.json.decode(line, type=Row) for line in ledger.read_bytes().splitlines()]
    late = job.late_s if isinstance(job, Visits) else ()
    certificate = Certificate.of(lag, steal_share, rows, late)
    _to_origin(job, origin)
    result = result_of(
        job,
        lambda: [_row_to_origin(row, origin) for row in rows],
        wall_s,
        invalid=certificate.reasons(foreign=target is not None),
        certificate=msgspec.to_builtins(certificate),
    )
    notes = absent(prepared.scenario.upstream)
    if target is not None:
        notes += certificate.remarks()
    return msgspec.structs.replace(result, notes=(*result.notes, *notes))


def _run(job: AnyJob) -> tuple[float, Sequence[float]]:
    """Run the job; returns the loop's time at its start, and the loop's lags."""

    async def main() -> tuple[float, Sequence[float]]:
        loop = asyncio.get_running_loop()
        with interruptible(loop, job):
            async with LagMeter() as meter:
                origin = loop.time()
                await job.run()
        return origin, meter.lags_s

    with asyncio.Runner() as runner:
        return runner.run(main())


async def _open_door(host: Host) -> str:
    """Let callers reach the service over loopback."""
    return f"http://127.0.0.1:{await host.listen('127.0.0.1', 0)}"


def _to_origin(job: AnyJob, origin: float) -> None:
    """Let the run begin at 0, as on the virtual clock."""
    if isinstance(job, TargetJob):
        job.spans[:] = [_span_to_origin(span, origin) for span in job.spans]
    else:
        # A run that was resumed began so much earlier as it had run before.
        began = job.origin if isinstance(job, Job) else origin
        job.records[:] = [moved(row, -began) for row in job.records]


def _span_to_origin(span: Span, origin: float) -> Span:
    return span._replace(
        queued=span.queued - origin, began=span.began - origin, ended=span.ended - origin
    )


_ROW_TIMES = ("arrived_s", "admitted_s", "headers_s", "first_token_s", "last_token_s", "ended_s")


def _row_to_origin(row: Row, origin: float) -> Row:
    """The mock's clock is the same monotonic one: it counts from the machine's start."""
    times = {n: t - origin for n in _ROW_TIMES if (t := getattr(row, n)) is not None}
    return msgspec.structs.replace(row, **times)
