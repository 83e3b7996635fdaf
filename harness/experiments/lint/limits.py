"""Rules on what is given up, when, and what is tried again."""

from collections.abc import Iterator
from itertools import count
from math import inf

from harness.experiments.lint.case import MINUTE_S, Case, Warn, pauses_s
from harness.report.text import length, percent, rate
from mock_llm.distributions import mean
from mock_llm.faults import Fault
from mock_llm.faults.hang_after_headers import HangAfterHeaders
from mock_llm.faults.hang_before_headers import HangBeforeHeaders
from mock_llm.faults.hang_mid_stream import HangMidStream
from mock_llm.faults.keep_alive_hang import KeepAliveHang
from mock_llm.faults.rate_limited import RateLimited
from mock_llm.faults.server_error import ServerError
from mock_llm.faults.tls_stall import TlsStall

HANGS = (HangBeforeHeaders, HangAfterHeaders, HangMidStream, KeepAliveHang, TlsStall)
LONG = 2.0
"""A limit of twice the 99th percentile gives up hardly anything that would have come."""

HEAVY = 0.05
"""Share of the slots' time that is worth a word."""


def no_time_limit(case: Case) -> Iterator[Warn]:
    """Nothing ends a call that never answers."""
    if case.pipe.attempt_timeout_s is not None:
        return
    rate_of_hangs = _hangs(case)
    ends = case.deadline_s or (case.pipe.job_deadline_s if case.batch else None)
    text = "nothing ends a call that never answers"
    if ends is not None:
        text = f"only the deadline of {length(ends)} ends a call that never answers"
    if rate_of_hangs:
        text += f"; {percent(rate_of_hangs)} of the calls do not"
        if case.batch:
            text += f", that is {rate_of_hangs * case.calls:,.1f} of {case.calls:,.0f}"
    elif ends is not None:
        return
    advice = f"a limit of {LONG * case.p99_s:.1f} s (twice the 99th percentile) would do"
    yield Warn(key="pipeline.attempt_timeout_s", text=text, advice=advice)


def long_time_limit(case: Case) -> Iterator[Warn]:
    """Calls that hang keep their slots for much longer than answers take."""
    limit_s, share = case.pipe.attempt_timeout_s, _hangs(case)
    enough_s = LONG * case.p99_s
    if limit_s is None or not share or case.pipe.slot == "never" or limit_s <= enough_s:
        return
    lost = share * limit_s / (share * limit_s + case.call_s)
    if lost > HEAVY:
        text = (
            f"{percent(share)} of the calls hang and keep a slot for {length(limit_s)}: "
            f"{percent(lost)} of the slots' time"
        )
        shorter = share * enough_s / (share * enough_s + case.call_s)
        advice = f"{enough_s:.1f} s (twice the 99th percentile) would cost {percent(shorter)}"
        yield Warn(key="pipeline.attempt_timeout_s", text=text, advice=advice)


def _hangs(case: Case) -> float:
    """Share of the calls that hang, where that is so all the time."""
    return min(1.0, sum(f.rate for f in case.up.faults.values() if isinstance(f, HANGS)))


def ladder(case: Case) -> Iterator[Warn]:
    """Attempts and pauses <= the request's deadline <= the caller's patience."""
    pipe, caller_s = case.pipe, case.work.deadline_s
    if pipe.deadline_s is not None and caller_s is not None and pipe.deadline_s > caller_s:
        text = f"{length(pipe.deadline_s)}, while callers wait {length(caller_s)}: it never holds"
        advice = "make it shorter than the caller's, or leave it out"
        yield Warn(key="pipeline.deadline_s", text=text, advice=advice)
    job_s = pipe.job_deadline_s if case.batch else None
    ends = [one for one in (case.deadline_s, job_s) if one is not None]
    if ends and pipe.attempt_timeout_s is not None:
        yield from _rungs(case, pipe.attempt_timeout_s, min(ends))


def _rungs(case: Case, limit_s: float, deadline_s: float) -> Iterator[Warn]:
    attempts, pauses = case.pipe.retries + 1, pauses_s(case.pipe, case.pipe.retries, 0.5)
    whole_s = attempts * limit_s + pauses
    if whole_s <= deadline_s:
        return
    fit = next(n for n in count() if _spent_s(case, limit_s, n + 1) > deadline_s)
    each_s = (deadline_s - pauses) / attempts
    text = (
        f"{_attempts(attempts)} of {length(limit_s)} and {length(pauses)} of pauses take "
        f"{length(whole_s)}; the deadline is {length(deadline_s)}, and {fit} of them fit"
    )
    shorter = f"a limit of {each_s:.1f} s, or " if each_s >= case.p99_s else ""
    advice = f"{shorter}retries = {max(0, fit - 1)}"
    if not fit and not shorter:
        advice = "a limit below the deadline"
    yield Warn(key="pipeline.attempt_timeout_s", text=text, advice=advice)


def _spent_s(case: Case, limit_s: float, attempts: int) -> float:
    """When the last of so many attempts is given up, if all are."""
    return attempts * limit_s + pauses_s(case.pipe, attempts - 1, 0.5)


def out_of_patience(case: Case) -> Iterator[Warn]:
    """All the retries are over before the limit, or the outage, that they are to outlive."""
    pipe, throttle = case.pipe, case.up.throttle
    limit = throttle.requests_per_min
    told = throttle.form == "upstream_2026" and throttle.hints != "body"
    waits = pipe.backoff.honour_retry_after and told and pipe.retries
    whole = case.calls if case.batch else inf
    if limit is not None and whole > limit < case.asked_per_s * MINUTE_S and not waits:
        pauses = pauses_s(pipe, pipe.retries, 0.5)
        if pauses < MINUTE_S:
            yield Warn(
                key="pipeline.retries",
                text=f"refused calls are tried again for {length(pauses)} on average; "
                f"the provider's limit looks back over {length(MINUTE_S)}",
                advice="honour Retry-After where the provider gives it, or wait for longer",
            )
    for name, fault in case.up.faults.items():
        patience_s = _patience_s(case, fault)
        lasts_s = (fault.until_s or inf) - fault.from_s - 2 * fault.ramp_s
        if patience_s is not None and patience_s < lasts_s < inf:
            yield Warn(
                key="pipeline.retries",
                text=f"the outage {name!r} lasts {length(lasts_s)}, the attempts are over "
                f"within {length(patience_s)} at most: whoever asks at its start fails",
                advice="more retries, a breaker, or fallbacks",
            )


def _patience_s(case: Case, fault: Fault) -> float | None:
    """The longest that retries can take, if a fault refuses every call of its time at once."""
    if not isinstance(fault, RateLimited | ServerError) or fault.rate < 1 or fault.models:
        return None
    if fault.first_n is not None or fault.regimes or case.pipe.fallbacks:
        return None
    hint_s = fault.retry_after_s
    if isinstance(fault, RateLimited) and (fault.form != "upstream_2026" or fault.hints == "body"):
        hint_s = None
    refusing_s = (case.pipe.retries + 1) * mean(fault.after_s)
    return pauses_s(case.pipe, case.pipe.retries, 1.0, hint_s) + refusing_s


def no_pause(case: Case) -> Iterator[Warn]:
    """Failed calls are made again at once."""
    if case.pipe.retries and not min(case.pipe.backoff.base_s, case.pipe.backoff.cap_s):
        text = f"failed calls are made again at once, up to {case.pipe.retries} times"
        advice = "base_s = 0.5 (and jitter) is the default"
        yield Warn(key="pipeline.backoff", text=text, advice=advice)


def vulnerable_band(case: Case) -> Iterator[Warn]:
    """Retries can keep an overload alive after its cause has gone: c mu / (1 + r) < rate < c mu."""
    pipe, capacity = case.pipe, case.up.capacity
    if case.batch or capacity is None or capacity.slots is None or not case.call_s:
        return
    limit_s, slots = pipe.attempt_timeout_s, capacity.slots
    cured = pipe.retry_budget or case.up.handler_cancellation or capacity.order == "lifo"
    if limit_s is None or not pipe.retries or cured:
        return
    # A queue that ends before the time limit does lets no call die in it.
    waiting = min(case.lanes - slots, inf if capacity.queue is None else capacity.queue)
    if case.call_s * (1 + waiting / slots) <= limit_s:
        return
    most = slots / case.call_s
    least = most / (1 + pipe.retries)
    rates = [one for one in case.rates_per_s if least < one < most]
    if rates:
        text = (
            f"{rate(rates[0])} come, between the {rate(least)} that the provider could do if "
            f"every call needed its {pipe.retries} retries and the {rate(most)} that it can do: "
            "an overload that has begun need not end"
        )
        advice = "a [pipeline.retry_budget]; backoff does not help"
        yield Warn(key="pipeline.retries", text=text, advice=advice)


def _attempts(number: int) -> str:
    return "1 attempt" if number == 1 else f"{number} attempts"
