"""What can be said of a configuration before it runs: bounds that no luck can pass."""

from collections.abc import Iterator, Sequence
from math import sqrt
from typing import NamedTuple

from harness.engines.base import Prepared
from harness.experiments.lint.asked import paces
from harness.experiments.lint.case import MINUTE_S, Case
from harness.report.text import length, rate, usd
from harness.scenario.model import Scenario
from harness.scenario.slo import Bound
from mock_llm.config import Profile, Upstream

ERRORS = 5.0
"""A mean of n call times lies within so many standard errors (of cv 1) of its expectation."""

MONEY_SLACK = 1.25
"""The projection of the cost comes from the texts alone."""

_SPEED = {"duration_s": "<=", "throughput_per_s": ">="}
_COUNTS = {"success_rate", "timeout_rate", "ok", "failed", "timed_out", "requests"}


class Reason(NamedTuple):
    """Why something cannot be.

    Attributes:
        over: what is needed, over what there is; above 1.
        text: with the numbers.
    """

    over: float
    text: str


def impossible(prepared: Prepared, bounds: Sequence[Bound]) -> Reason | None:
    """Why no run of this can keep the promises; None where nothing says so."""
    case = Case(prepared)
    wanted = {(bound.metric, bound.op[0]): bound for bound in bounds}
    reasons = [*_money(case, wanted)]
    reasons += _batch(case, wanted) if case.batch else _arrivals(case, wanted)
    return max(reasons, default=None)


Wanted = dict[tuple[str, str], Bound]


def _batch(case: Case, wanted: Wanted) -> Iterator[Reason]:
    """Calls and slots, and limits a minute, leave a least time."""
    calls = case.calls
    ends = wanted.get(("duration_s", "<"))
    speed = wanted.get(("throughput_per_s", ">"))
    times = [(ends.limit, f"the goal is {length(ends.limit)}")] if ends else []
    if speed and speed.limit > 0 and calls:
        times.append((calls / speed.limit, f"that is under {rate(speed.limit)}"))
    if not calls or not times:
        return
    end_s, told = min(times)
    means = 1 + ERRORS / sqrt(calls)  # what the calls' mean time says scatters; limits do not
    all_paces = [(p.least_s / (1 if n else means), p) for n, p in enumerate(paces(case))]
    least_s, pace = max(all_paces, key=lambda pair: pair[0])
    if least_s >= end_s:  # the last call takes some time too
        factor = pace.least_s / end_s
        least = f"over {length(end_s)}" if least_s == end_s else f"{length(pace.least_s)} at least"
        text = f"{pace.what} take {least}; {told}; {pace.advice(factor)}"
        yield Reason(factor, text)


def _arrivals(case: Case, wanted: Wanted) -> Iterator[Reason]:
    """What comes by itself and is to be answered must fit in until the last deadline."""
    share = wanted.get(("success_rate", ">"))
    end_s, late_s = case.work.duration_s, case.deadline_s
    if share is None or case.work.kind != "arrivals" or end_s is None or late_s is None:
        return
    most, what = case.capacity_per_s, f"{case.lanes} at once, {case.call_s:.2f} s a call,"
    per_min = case.up.throttle.requests_per_min
    if per_min is not None and per_min / MINUTE_S < most:
        most, what = per_min / MINUTE_S, f"the provider's {per_min} a minute"
    served = most * (end_s + late_s) + (per_min or 0)
    needed = share.limit * len(case.starts) * (1 - case.repeats if case.pipe.cache else 1)
    if needed > served * (1 + ERRORS / sqrt(max(1.0, served))):
        text = f"{rate(case.offered_per_s)} come; {what} serve {rate(most)} at most"
        yield Reason(needed / served, text)


def _money(case: Case, wanted: Wanted) -> Iterator[Reason]:
    """Answers cost something."""
    whole, share = case.prepared.projection, wanted.get(("success_rate", ">"))
    least = whole.cost_usd * (share.limit if share else 0.0) / MONEY_SLACK
    budget, ceiling = case.pipe.budget, wanted.get(("cost_usd", "<"))
    caps: list[tuple[str, float | None]] = [
        ("pipeline.budget.run_usd", budget.run_usd if budget else None),
        ("upstream.credits_usd", case.up.credits_usd),
        ("the goal", ceiling.limit if ceiling else None),
    ]
    for name, cap in caps if case.batch else ():
        if cap is not None and least > cap:
            bill = f"{whole.requests:,} requests cost about {usd(whole.cost_usd)}"
            yield Reason(whole.cost_usd / max(cap, 1e-9), f"{bill}; {name} is {usd(cap)}")


def slots_only_help(prepared: Prepared, bounds: Sequence[Bound]) -> bool:
    """Whether more slots can break no promise: where one setting misses, fewer slots miss too.

    So it is for a batch of requests that each hold a slot for a time of their own, whenever they
    begin: handed out in one order, none begins later where there is one slot more (by induction
    over the list; Graham, SIAM J. Appl. Math. 17(2), 1969, needs precedence for his anomalies).
    That takes a provider that minds neither how many call nor when, and no rule that does. A set-up
    that every slot pays once, at its start, moves all of it alike.
    """
    pipe, work = prepared.scenario.pipeline, prepared.scenario.workload
    helped = all(
        one.metric in _COUNTS or _SPEED.get(one.metric, "?")[0] == one.op[0] for one in bounds
    )
    per_user = -(-len(prepared.items) // work.users)
    free = pipe.rate_limit is None or per_user <= pipe.rate_limit
    guards = (pipe.adaptive, pipe.breaker, pipe.hedge, pipe.retry_budget, pipe.budget)
    limits = (pipe.deadline_s, pipe.job_deadline_s, pipe.cache, pipe.pool_limit)
    return (
        helped
        and work.kind == "batch"
        and free
        and pipe.slot == "before_timeout"
        and not any(guards)
        and not any(limits)
        and _indifferent(prepared.scenario.upstream)
        and _set_up_once(prepared.scenario)
    )


def _set_up_once(scenario: Scenario) -> bool:
    """Whether connections take no time, or every call has its own, or every slot has just one."""
    setup = scenario.upstream.connection_setup
    constant = isinstance(setup, int | float)
    return not setup or not scenario.pipeline.pool or (constant and not scenario.upstream.faults)


def _indifferent(up: Upstream) -> bool:
    """Whether the provider serves a call alike whenever it comes and whoever else calls."""
    limits = (up.throttle.requests_per_min, up.throttle.tokens_per_min, up.throttle.concurrent)
    times = (up.capacity, up.regime, up.drift, up.credits_usd)
    profiles = [up.profile, *(model.profile for model in up.models.values() if model.profile)]
    faults = up.faults.values()
    return (
        not any(limits)
        and not any(times)
        and all(map(_steady, profiles))
        and not any(f.from_s or f.until_s or f.regimes or f.first_n for f in faults)
    )


def _steady(profile: Profile) -> bool:
    return not (profile.prefill_s_per_1k or profile.cold_start or profile.prompt_cache)
