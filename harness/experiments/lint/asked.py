"""Rules on how much is asked, of the slots, of limits and of caches: Little's law, mostly."""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import ceil, inf
from typing import NamedTuple

from harness.experiments.lint.case import MINUTE_S, Case, Warn
from harness.report.text import length, percent, rate
from harness.scenario.slo import Bound, parse_slo

SLACK = 1.02
"""What is missed by less than 2 % may well be met: call times are means."""

ROUNDING = 1e-9
PATIENCE_S = 60.0
"""A wait that somebody would complain about, where no deadline says which."""


class Pace(NamedTuple):
    """What may set the pace of a batch: the least time it takes, and advice for a factor."""

    least_s: float
    what: str
    advice: Callable[[float], str]


def too_slow(case: Case) -> Iterator[Warn]:
    """A batch cannot end in time: calls x seconds / slots, or a limit's pace, is already more."""
    if not case.batch or not case.calls:
        return
    least_s, what, advice = max(paces(case), key=lambda pace: pace.least_s)
    promises = {bound.metric: bound for bound in parse_slo(case.slo)}
    ends = [("pipeline.job_deadline_s", case.pipe.job_deadline_s, "the job is ended after")]
    ends.append(("slo.duration_s", _upper(promises.get("duration_s")), "the promise is"))
    for key, end_s, said in ends:
        if end_s is not None and least_s > end_s * SLACK:
            text = f"{what} take {length(least_s)} at least; {said} {length(end_s)}"
            yield Warn(key=key, text=text, advice=advice(least_s / end_s))
    wanted = _lower(promises.get("throughput_per_s"))
    if wanted and wanted > SLACK * case.calls / least_s:
        text = f"{what} are {rate(case.calls / least_s)} at most; the promise is {rate(wanted)}"
        faster = wanted * least_s / case.calls
        yield Warn(key="slo.throughput_per_s", text=text, advice=advice(faster))


def paces(case: Case) -> Iterator[Pace]:
    """What may set the pace of a batch."""
    calls, lanes, users = case.calls, case.lanes, case.work.users
    each = "one at a time" if lanes == 1 else f"{lanes} at once"
    yield Pace(
        calls / case.capacity_per_s,
        f"{calls:,.0f} calls of {case.call_s:.2f} s, {each},",
        lambda factor: f"{ceil(lanes * factor)} at once would do",
    )
    if (per_user := case.pipe.rate_limit) is not None:
        yield Pace(
            _paced_s(calls, users * per_user, case.pipe.limiter),
            f"{calls:,.0f} calls of {_users(users)}, {per_user} a minute each,",
            lambda factor: f"deal them to {ceil(users * factor)} users, or raise the limit",
        )
    if (per_min := case.up.throttle.requests_per_min) is not None:
        window = case.up.throttle.window
        least_s, begun = _paced_s(calls, per_min, window), window == "fixed"

        def cannot(factor: float) -> str:
            minutes = ceil(least_s / factor / MINUTE_S) + begun
            return f"no client can: it would take {calls / per_min / minutes:.3g} times that limit"

        what = f"{calls:,.0f} calls, of which the provider admits {per_min} a minute,"
        yield Pace(least_s, what, cannot)


def _paced_s(calls: float, per_min: float, window: str = "gcra") -> float:
    """The least time that a limit per minute leaves; the first minute's worth may go at once.

    Where calls are counted, the next may go when a whole minute has passed, and not bit by bit; of
    fixed minutes the first may be about to end.
    """
    minutes = calls / per_min if window == "gcra" else ceil(calls / per_min - ROUNDING)
    return max(0.0, minutes - (2 if window == "fixed" else 1)) * MINUTE_S


def limit_per_user(case: Case) -> Iterator[Warn]:
    """The pipeline's limit per user is below what the users need, or what the slots can do."""
    per_min, users = case.pipe.rate_limit, case.work.users
    if per_min is None:
        return
    limit_per_s = users * per_min / MINUTE_S
    if case.batch:
        binds = _paced_s(case.calls, users * per_min) > SLACK * case.calls / case.capacity_per_s
        wanted, what = case.capacity_per_s, f"{case.lanes} calls at once could do"
    else:
        binds, wanted, what = True, case.offered_per_s, "they ask for"
    if binds and wanted > SLACK * limit_per_s:
        text = (
            f"{_users(users)} with {per_min} requests a minute each may ask for "
            f"{rate(limit_per_s)}; {what} {rate(wanted)}"
        )
        advice = f"{_needed(wanted, users)} a minute each, or {ceil(wanted * 60 / per_min)} users"
        yield Warn(key="pipeline.rate_limit", text=text, advice=advice)


def _needed(wanted: float, users: int) -> str:
    return f"{ceil(wanted * MINUTE_S / users)}" if wanted < inf else "many more"


def throttled(case: Case) -> Iterator[Warn]:
    """The provider admits less than is asked for: there will be 429s."""
    throttle, asked = case.up.throttle, case.asked_per_s * MINUTE_S
    used = case.prepared.projection
    tokens = (used.prompt_tokens + used.completion_tokens) / max(1, used.requests)
    limits = [("requests_per_min", throttle.requests_per_min, 1.0, "calls")]
    limits.append(("tokens_per_min", throttle.tokens_per_min, tokens, "tokens"))
    for key, most, each, unit in limits:
        whole = case.calls * each if case.batch else inf
        if most is not None and whole > most and asked * each > most:
            over = percent(asked * each / most - 1) if asked < inf else "any number"
            text = (
                f"{asked * each:,.0f} {unit} a minute are asked for, {over} more than the "
                f"{most:,} that the provider admits: expect 429s"
            )
            advice = f"ask for less: {_fewer(case, most / each)}"
            yield Warn(key=f"upstream.throttle.{key}", text=text, advice=advice)
    if throttle.concurrent is not None and throttle.concurrent < case.lanes:
        text = f"the provider admits {throttle.concurrent} calls at once, up to {case.lanes} are"
        yield Warn(
            key="upstream.throttle.concurrent",
            text=f"{text} made: expect 429s",
            advice=f"make {throttle.concurrent} at once at most",
        )


def _fewer(case: Case, per_min: float) -> str:
    """How many calls at once keep to a limit."""
    if not case.call_s:
        return "limit the pipeline too"
    slots = max(1, int(per_min / MINUTE_S * case.call_s))
    return f"{slots} at once stay below it"


def overload(case: Case) -> Iterator[Warn]:
    """More comes than the workers can do: users wait in line, arrivals pile up."""
    if case.batch or case.capacity_per_s == inf:
        return
    wait_s, when = _users_wait(case) if case.work.kind == "users" else _pile(case)
    most_s = case.deadline_s or PATIENCE_S
    if case.work.kind == "users":
        most_s = min(most_s, case.call_s)
    if wait_s <= most_s * SLACK:
        return
    can = f"{case.lanes} workers do {rate(case.capacity_per_s)} at most"
    yield Warn(
        key="pipeline.workers",
        text=f"{when}; {can}: they wait {length(wait_s)}"
        + (f", and have {length(case.deadline_s)}" if case.deadline_s else ""),
        advice=f"{ceil(max(case.rates_per_s) * case.call_s)} workers and as many calls at once at "
        "the provider would do; fewer, if being refused is meant",
    )


def _users_wait(case: Case) -> tuple[float, str]:
    """What a user waits for an answer, at least: N D - Z, the closed loop's bottleneck law."""
    loop_s = case.work.users / case.capacity_per_s
    think_s = max(0.0, case.work.users / case.offered_per_s - case.call_s)
    asked = f"{_users(case.work.users)} who think {length(think_s)} ask for up to"
    return loop_s - think_s, f"{asked} {rate(case.offered_per_s)}"


def _pile(case: Case) -> tuple[float, str]:
    """The longest wait if every call took its mean time: Lindley's recursion."""
    wait_s = longest_s = at_s = 0.0
    for before, start in pairwise(case.starts):
        wait_s = max(0.0, wait_s + 1 / case.capacity_per_s - (start - before))
        if wait_s > longest_s:
            longest_s, at_s = wait_s, start
    most = max(case.rates_per_s)
    return longest_s, f"{rate(most)} come, and by {length(at_s)} there is a queue"


def hit_rate(case: Case) -> Iterator[Warn]:
    """More cache hits are promised than the texts repeat themselves."""
    bound = {one.metric: one for one in parse_slo(case.slo)}.get("cache.hit_rate")
    wanted, there = _lower(bound), _repeats(case)
    if not wanted or case.pipe.near is not None or there is None:
        return
    if case.pipe.cache is None:
        text, advice = "there is no cache", 'pipeline.cache = "memory"'
    elif wanted > there:
        text = f"{percent(there)} of the requests have a text that came before"
        advice = "promise no more than the input repeats itself"
    else:
        return
    text = f"{text}; the promise is {percent(wanted)} hits"
    yield Warn(key="slo.cache.hit_rate", text=text, advice=advice)


def _repeats(case: Case) -> float | None:
    """Share of the requests whose text came before, at most; None where nobody knows."""
    if case.batch:
        return case.repeats
    if case.work.kind == "users":
        return None
    distinct = case.reviews * (1 - case.repeats)
    return max(0.0, 1 - distinct / max(distinct, len(case.starts)))


def over_again(case: Case) -> Iterator[Warn]:
    """A cache is fed with reviews that have all had their turn: its hits are the scenario's."""
    if case.batch or case.pipe.cache is None:
        return
    requests = len(case.starts)
    if case.work.kind == "users":
        within_s = case.work.duration_s or inf
        least = min(case.offered_per_s, case.capacity_per_s) * within_s
        each = case.work.requests_per_user or inf
        requests = int(min(least, each * case.work.users, 1e9))
    if requests > 1.1 * case.reviews:
        share = percent(1 - case.reviews / requests)
        text = (
            f"about {requests:,} requests ask about {case.reviews:,} reviews: up to {share} come "
            "again, and the cache looks that good"
        )
        advice = f"a corpus of {requests:,}, or mean it"
        yield Warn(key="workload.reviews", text=text, advice=advice)


def _upper(bound: Bound | None) -> float | None:
    return bound.limit if bound is not None and re.match("<|==", bound.op) else None


def _lower(bound: Bound | None) -> float | None:
    return bound.limit if bound is not None and re.match(">|==", bound.op) else None


def _users(count: int) -> str:
    return "1 user" if count == 1 else f"{count:,} users"
