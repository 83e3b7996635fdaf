"""Rules on where requests wait in line: for a slot, a connection, a worker."""

from collections.abc import Iterator
from math import inf

from harness.experiments.lint.asked import PATIENCE_S
from harness.experiments.lint.case import Case, Warn
from harness.report.text import length, usd


def slot_inside(case: Case) -> Iterator[Warn]:
    """The slot is awaited inside the time limit, which then runs while nothing is sent."""
    limit_s = case.pipe.attempt_timeout_s
    if case.pipe.slot != "inside_timeout" or limit_s is None:
        return
    text = "the slot is awaited inside the time limit, so that waiting in line uses it up"
    served = limit_s * case.capacity_per_s
    if case.batch and served < case.wave:
        text += f": of {case.wave:,} that begin together about {served:,.0f} are served in time"
    advice = 'slot = "before_timeout"'
    yield Warn(key="pipeline.slot", text=text, advice=advice)


def slot_never(case: Case) -> Iterator[Warn]:
    """The semaphore is never acquired."""
    if case.pipe.slot == "never":
        most = case.pipe.adaptive.highest if case.pipe.adaptive else case.pipe.concurrency
        text = f"the semaphore of {most} is never acquired: {case.lanes:,} calls at once"
        yield Warn(key="pipeline.slot", text=text, advice='slot = "before_timeout"')


def small_pool(case: Case) -> Iterator[Warn]:
    """Fewer connections than calls at once: the rest wait, inside the time limit."""
    pipe = case.pipe
    if pipe.pool_limit is None or pipe.slot == "never":
        return
    key, slots = "concurrency", pipe.adaptive.highest if pipe.adaptive else pipe.concurrency
    if not case.batch and pipe.slot != "inside_timeout":
        key, slots = "workers", pipe.workers
    if pipe.pool_limit < slots:
        waiting = slots - pipe.pool_limit
        text = f"{pipe.pool_limit} connections for {slots} {key}: {waiting} calls wait for one"
        advice = f"at least {slots}, or none"
        yield Warn(key="pipeline.pool_limit", text=text, advice=advice)


def deep_queue(case: Case) -> Iterator[Warn]:
    """The queue takes in what cannot be answered in time: depth > (deadline - S) c / S."""
    queue, can = case.pipe.queue, case.capacity_per_s
    if case.batch or can == inf:
        return
    depth = queue.size
    if case.work.kind == "users":
        depth = min(depth, case.work.users - case.lanes)
    last_s, deadline_s = depth / can, case.deadline_s
    if deadline_s is None:
        if max(case.rates_per_s) <= can or last_s <= PATIENCE_S:
            return
        text = f"the last of {depth:,} waits {length(last_s)}, and no deadline says that is too"
        advice = "a deadline_s, so that the queue can refuse what comes too late"
        yield Warn(key="pipeline.queue", text=f"{text} long", advice=advice)
        return
    useful = max(0, int((deadline_s - case.call_s) * can))
    if depth > useful and not queue.useful_only:
        text = (
            f"{depth:,} may wait, the last of them {length(last_s)}; of those only the first "
            f"{useful:,} are answered within {length(deadline_s)}"
        )
        advice = f"useful_only = true, or size = {useful}"
        yield Warn(key="pipeline.queue", text=text, advice=advice)


def send_all(case: Case) -> Iterator[Warn]:
    """Every prompt holds all exchanges before it."""
    if case.batch and case.pipe.context == "send_all" and case.reviews > 1:
        whole = case.prepared.projection
        each = whole.prompt_tokens / whole.requests
        text = (
            f"every prompt holds all exchanges before it: {each:,.0f} tokens on average, "
            f"{usd(whole.cost_usd)} for {whole.requests:,} requests"
        )
        yield Warn(key="pipeline.context", text=text, advice='context = "trim"')
