"""What the engines with a real client share: our job or a target's, and how it is ended."""

import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from harness.client_findings import client_findings
from harness.engines.base import EngineResult, OnProgress, Prepared, Target, toolkit
from harness.engines.callers import Callers
from harness.engines.target import TargetJob, records_of, traffic_of
from harness.engines.visitors import OpenDoor, Visits
from harness.errors import InputError
from harness.pipeline.costs import tiers
from harness.pipeline.job import Job
from harness.pipeline.journal import Replayed
from harness.pipeline.money import Statistics
from harness.records import Record
from mock_llm.ledger import Row

AnyJob = Job | TargetJob | Visits


class Told(Protocol):
    """A loop, or a clock, that can be told something between two events."""

    def call_soon_threadsafe(self, function: Callable[..., object], /, *args: Any) -> object:
        """Have a function called there."""


def job_of(
    prepared: Prepared,
    seed: int,
    base_url: str,
    target: Target | None,
    on_progress: OnProgress | None,
    open_door: OpenDoor | None = None,
    replayed: Replayed | None = None,
) -> AnyJob:
    """Our pipeline over the prepared items, or the target in its place; or users of the service.

    Raises:
        InputError: a target is asked to serve users.
    """
    settings = prepared.scenario.pipeline
    if (kind := prepared.scenario.workload.kind) != "batch":
        if target is not None:
            raise InputError(f'--target: takes a batch, and workload.kind is "{kind}"')
        if open_door is None:
            raise TypeError("users need a door to the service")
        return Visits(prepared, seed, base_url, open_door, on_progress)
    if target is None:
        tools = toolkit(prepared, seed, base_url, on_progress, replayed)
        return Job(prepared.items, settings, tools)
    return TargetJob(
        target, prepared.items, settings, base_url, on_progress, tiers=tiers(prepared.prices)
    )


def result_of(
    job: AnyJob | Callers,
    rows: Callable[[], Iterable[Row]],
    wall_s: float,
    invalid: tuple[str, ...] = (),
    certificate: dict[str, Any] | None = None,
) -> EngineResult:
    """What the job did, as every engine reports it; `rows` are asked for only by a target."""
    notes: tuple[str, ...] = ()
    judged = None
    money: Statistics | None = None
    in_doubt: tuple[Record, ...] = ()
    if isinstance(job, TargetJob):
        seen = list(rows())
        records, strays = records_of(job.spans, seen, job.tiers)
        judged = tuple(client_findings(traffic_of(job.spans, seen)))
        labels = job.labels
        context = {"peak": 0, "last": 0}
        notes = tuple(_remarks(job, strays))
    else:
        records = job.records
        labels = {key: answer.label for key, answer in job.answers.items()}
        context = {"peak": job.context.peak_bytes, "last": job.context.size_bytes}
        if isinstance(job, Job):
            money, in_doubt = job.money, job.in_doubt
    visits = job if isinstance(job, Callers) else None
    return EngineResult(
        records=records,
        labels=labels,
        context_bytes=context,
        stopped=job.stopped,
        invalid=invalid,
        wall_s=wall_s,
        certificate=certificate or {},
        notes=notes,
        money=money,
        in_doubt=in_doubt,
        client_findings=judged,
        submitted=None if visits is None else (*visits.intended, *visits.items),
        truths=None if visits is None else visits.truths,
    )


def _remarks(job: TargetJob, strays: Sequence[Row]) -> Iterator[str]:
    """What a user should know of a target's run that its records do not show."""
    if strays:
        dollars = math.fsum(row.billed_usd for row in strays)
        yield (
            f"{len(strays)} calls (${dollars:.4f}) could not be told apart by review, so they are "
            "in no figure: send review.headers along"
        )
    if job.failures:
        key, failure = next(iter(job.failures.items()))
        yield f"{len(job.failures)} calls of the target raised, first {key}: {failure}"


@contextmanager
def interruptible(loop: Told, job: AnyJob | Callers) -> Iterator[None]:
    """Ctrl-C or SIGTERM stops the job and keeps what was done; a second one is not caught."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(_: int, __: object) -> None:
        restore()
        loop.call_soon_threadsafe(job.stop, "interrupted")

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()
