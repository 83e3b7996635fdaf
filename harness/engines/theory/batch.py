"""What theory says of a batch job: so many slots, with or without a barrier between batches."""

from collections.abc import Iterator
from math import inf

from harness.engines.theory.case import NEAR, Answer, Case, answer
from harness.theory.batches import Makespan, makespan

ONE_BY_ONE = "n E[S] (one at a time)"
SLOTS = "n E[S] / c and the last ones (renewal theory)"
WAVES = "E[max of a batch] (order statistics)"
WORK = "c / E[S] (work conservation)"
COUNT = "c (t / E[S] + (Cs2 - 1) / 2) (renewal count)"

COARSE = 0.6
"""Time before over time after the last call begins; below it SLOTS is off by more than 5 %."""


def batch_answers(case: Case) -> Iterator[Answer]:
    """Duration, speed and latency of a batch; and the bound that nothing can pass."""
    settings, n = case.scenario.pipeline, len(case.prepared.items)
    slots = slots_of(case)
    figures = {"throughput_per_s_max": min(n, slots) / case.connected.mean}
    yield answer(WORK, "bound", "an upper bound", figures, list(case.quickening(n)))
    if case.connected_quantile is None:
        why = ["the law of the service time is known by its moments only"]
        yield answer(WAVES, "exact", "", {}, why)
    elif settings.slot == "inside_timeout":
        yield _counted(case, n, slots)
    else:
        yield _served(case, n, slots)


def slots_of(case: Case) -> float:
    """Calls at once, at most."""
    settings, capacity = case.scenario.pipeline, case.scenario.upstream.capacity
    own: float = settings.concurrency
    if settings.slot == "never":
        own = (settings.batch_size if settings.barrier else None) or inf
    if settings.pool and settings.pool_limit is not None:
        own = min(own, settings.pool_limit)
    return min(own, inf if capacity is None or capacity.slots is None else capacity.slots)


def _served(case: Case, n: int, slots: float) -> Answer:
    """A job in which every request is served in its turn."""
    quantile = case.connected_quantile
    assert quantile is not None  # noqa: S101 - asked before
    sizes = _waves(case, n)
    spans = {size: makespan(quantile, size, int(min(size, slots))) for size in set(sizes)}
    pooled = case.setup.mean if case.scenario.pipeline.pool else 0.0  # each slot once
    duration_s = sum(spans[size].total_s for size in sizes) + pooled
    formula = ONE_BY_ONE if slots == 1 else WAVES if max(sizes) <= slots else SLOTS
    obstacles = case.obstacles(n, n / duration_s) + list(_of_job(case, duration_s))
    if formula == SLOTS and not case.exponential:
        obstacles += _coarse(spans[max(sizes)], case)
    figures = {
        "requests": n,
        "ok": n,
        "duration_s": duration_s,
        "throughput_per_s": n / duration_s,
        "success_rate": 1.0,
        "timeout_rate": 0.0,
        **_latency(case, n, slots),
        **case.cost(n),
    }
    if formula == SLOTS and not case.exponential:
        good = "within 5 % (measured), and exact as n / c grows"
        return answer(formula, "approximate", good, figures, obstacles)
    return answer(formula, "exact", "exact", figures, obstacles)


def _counted(case: Case, n: int, slots: float) -> Answer:
    """A job whose requests all begin their time limit at once: so many are served within it.

    The mean count of a renewal process (Smith, Proc. Royal Society Edinburgh A 64, 1954).
    """
    settings, law = case.scenario.pipeline, case.connected
    limit_s = settings.attempt_timeout_s or inf
    work_s = limit_s - (case.setup.mean if settings.pool else 0.0)
    ok = slots * (work_s / law.mean + (law.cv2 - 1) / 2)
    obstacles = [*case.quickening(0), *_of_job(case, limit_s)]
    if settings.retries:
        obstacles.append("requests come again")
    if settings.barrier:
        obstacles.append("a barrier parts the batches")
    if ok > NEAR * n or ok < 2 * slots:
        obstacles.append("nearly all, or next to none, are in time")
    figures = {
        "requests": n,
        "ok": ok,
        "timed_out": n - ok,
        "duration_s": limit_s,
        "throughput_per_s": ok / limit_s,
        "success_rate": ok / n,
        "timeout_rate": 1 - ok / n,
    }
    return answer(COUNT, "approximate", "as the time limit grows", figures, obstacles)


def _waves(case: Case, n: int) -> list[int]:
    settings = case.scenario.pipeline
    size = settings.batch_size if settings.barrier else None
    if size is None or size >= n:
        return [n]
    whole, rest = divmod(n, size)
    return [size] * whole + [rest] * (rest > 0)


def _latency(case: Case, n: int, slots: float) -> dict[str, float]:
    """From the slot to the end; where the provider has fewer slots its queue is part of it."""
    settings, quantile = case.scenario.pipeline, case.connected_quantile
    opened = min(slots, n) * case.setup.mean / n if settings.pool else 0.0
    if slots < min(n, settings.concurrency) or quantile is None:
        return {}
    found = {f"latency_s.p{p}": quantile(p / 100) for p in (50, 90, 95, 99)}
    return {"latency_s.mean": case.connected.mean + opened, **found}


def _of_job(case: Case, duration_s: float) -> Iterator[str]:
    limit_s = case.scenario.pipeline.job_deadline_s
    if limit_s is not None and duration_s > NEAR * limit_s:
        yield f"the job has {limit_s:g} s and takes about {duration_s:,.0f} s"
    if case.scenario.pipeline.deadline_s is not None:
        yield "requests have a deadline of their own"


def _coarse(span: Makespan, case: Case) -> Iterator[str]:
    if case.connected.cv2 > 1e-9 and span.handed_out_s < COARSE * span.rest_s:
        yield "too few calls for each slot, for how much they scatter: off by over 5 %"
