"""What the rules know of a scenario before anything runs: bounds, not forecasts.

Every figure errs on the side of the scenario: a call is never taken for slower than it is on
average, and what is asked never for more. So a rule that says "cannot" is right, up to the scatter
of a mean.
"""

from functools import cached_property, lru_cache
from math import inf

import msgspec

from harness.engines.base import Prepared
from harness.pipeline.projection import REPLY
from harness.pipeline.retry import backoff_s
from harness.scenario.arrivals import TraceArrivals
from harness.scenario.pipeline import Pipeline
from harness.workload import schedule
from mock_llm.config import Profile
from mock_llm.distributions import Distribution, mean, quantile_function
from mock_llm.distributions.base import integral
from mock_llm.tokens import counter

MINUTE_S = 60.0
"""Limits per minute look back so far."""


class Warn(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is probably not meant.

    Attributes:
        key: of the scenario, dotted: what to look at.
        text: what is wrong, and by how much.
        advice: what to do.
        rule: name of the rule that says so; filled in by `lint`.
    """

    key: str
    text: str
    advice: str
    rule: str = ""


class Case:
    """A scenario as the rules see it.

    Args:
        prepared: resolved for one variant, its corpus read and routed.
    """

    def __init__(self, prepared: Prepared) -> None:
        scenario = prepared.scenario
        self.prepared = prepared
        self.slo = scenario.slo
        self.work, self.pipe, self.up = scenario.workload, scenario.pipeline, scenario.upstream
        self.reviews = len(prepared.corpus.reviews)
        self.batch = self.work.kind == "batch"
        self._seed = scenario.seed

    @cached_property
    def call_s(self) -> float:
        """Mean seconds that a call holds its slot, at least: nobody queues, nothing fails."""
        shares = self.prepared.projection.distribution
        setup_s = 0.0 if self.pipe.pool else mean(self.up.connection_setup)
        return setup_s + sum(share * self._answer_s(model) for model, share in shares.items())

    def _answer_s(self, model: str) -> float:
        profile, limit_s = self._profile(model), self.pipe.attempt_timeout_s
        pace = min(1.0, *(self.up.drift.factors if self.up.drift else ()), 1.0)
        pace = min(pace, self.up.regime.slowdown if self.up.regime else 1.0)
        tokens = max(0.0, self._tokens(profile) - 1)
        return pace * (_mean(profile.ttft, limit_s) + tokens * _mean(profile.itl, limit_s))

    def _profile(self, model: str) -> Profile:
        offer = self.up.models.get(model)
        return (offer and offer.profile) or self.up.profile

    def _tokens(self, profile: Profile) -> float:
        if profile.output_tokens is None:
            return counter(self.up.token_counts)(REPLY)
        return _mean(profile.output_tokens, self.pipe.max_tokens)

    @cached_property
    def p99_s(self) -> float:
        """About the time within which 99 % of the answers are there, on a bad day."""
        setup_s = 0.0 if self.pipe.pool else quantile_function(self.up.connection_setup)(0.99)
        pace = max(1.0, *(self.up.drift.factors if self.up.drift else ()), 1.0)
        pace *= max(1.0, self.up.regime.slowdown if self.up.regime else 1.0)
        models = self.prepared.projection.distribution
        return setup_s + pace * max(self._answer_s_p99(self._profile(model)) for model in models)

    def _answer_s_p99(self, profile: Profile) -> float:
        whole, cold = self.prepared.projection, profile.cold_start
        prefill_s = profile.prefill_s_per_1k * whole.prompt_tokens / whole.requests / 1000
        times = [profile.ttft, cold.extra_s] if cold else [profile.ttft]
        first_s = sum(quantile_function(one)(0.99) for one in times)
        return prefill_s + first_s + self._tokens(profile) * quantile_function(profile.itl)(0.99)

    @property
    def calls(self) -> float:
        """Calls of a batch, at least: what an exact cache cannot answer; 0 where nobody knows."""
        if self.pipe.near is not None:
            return 0.0
        return self.reviews * (1 - (self.repeats if self.pipe.cache else 0.0))

    @property
    def repeats(self) -> float:
        """Share of the reviews whose text came before."""
        return self.prepared.corpus.guards.repeats_in_input

    @property
    def wave(self) -> int:
        """Reviews of a batch that are handed out at once."""
        pipe = self.pipe
        return min(self.reviews, pipe.batch_size or self.reviews) if pipe.barrier else self.reviews

    @cached_property
    def lanes(self) -> int:
        """Calls at once, at most, as the pipeline has it."""
        pipe = self.pipe
        slots = pipe.adaptive.highest if pipe.adaptive else pipe.concurrency
        if self.batch:
            at_once = self.wave if pipe.slot == "never" else min(self.wave, slots)
        else:
            at_once = min(pipe.workers, self.work.users if self.work.kind == "users" else 10**9)
            if pipe.adaptive or pipe.slot == "inside_timeout":
                at_once = min(at_once, slots)
        return min(at_once, pipe.pool_limit or at_once)

    @cached_property
    def capacity_per_s(self) -> float:
        """Calls a second that lanes and provider can do together, at most."""
        at_once, capacity = self.lanes, self.up.capacity
        if capacity is not None:
            at_once = min(at_once, capacity.slots or at_once)
            if capacity.full_speed and capacity.exponent >= 1:
                at_once = min(at_once, capacity.full_speed)
        return at_once / self.call_s if self.call_s else inf

    @cached_property
    def starts(self) -> list[float]:
        """Arrivals of the scenario's own seed."""
        return schedule(self.work, self._seed, self.prepared.trace)

    @cached_property
    def offered_per_s(self) -> float:
        """Requests a second that come by themselves, on average; users: if answers took no longer.

        Infinite for a batch, which asks for as much as it gets.
        """
        if self.batch:
            return inf
        if self.work.kind == "users":
            cycle_s = mean(self.work.think) + self.call_s
            return self.work.users / cycle_s if cycle_s else inf
        end_s = self.work.duration_s or (self.starts[-1] if self.starts else 0.0)
        return len(self.starts) / end_s if end_s else 0.0

    @cached_property
    def rates_per_s(self) -> list[float]:
        """The rates of arrival there are, for as long as each lasts."""
        shape, end_s = self.work.arrivals, self.work.duration_s
        if shape is None or end_s is None or isinstance(shape, TraceArrivals):
            return [self.offered_per_s]
        return [one.expected / (one.end_s - one.begin_s) for one in shape.pieces(end_s)]

    @property
    def asked_per_s(self) -> float:
        """Calls a second that reach the provider, if it let them."""
        users_per_s = self.work.users * (self.pipe.rate_limit or inf) / MINUTE_S
        return min(self.offered_per_s, self.capacity_per_s, users_per_s)

    @property
    def deadline_s(self) -> float | None:
        """When a request is late: by the pipeline's rule or the caller's."""
        known = [one for one in (self.pipe.deadline_s, self.work.deadline_s) if one is not None]
        return min(known, default=None)


def pauses_s(pipe: Pipeline, retries: int, u: float, retry_after_s: float | None = None) -> float:
    """Seconds of backoff before so many retries; u of 0.5 is the mean, of 1 the most."""
    total = wait_s = 0.0
    for failures in range(1, retries + 1):
        wait_s = backoff_s(pipe.backoff, failures, retry_after_s, u, wait_s)
        total += wait_s
    return total


@lru_cache(maxsize=256)  # a variant after the other asks the same
def _mean(dist: Distribution, cap: float | None) -> float:
    """Mean of what is left of a distribution below a cap."""
    if cap is None:
        return mean(dist)
    quantile = quantile_function(dist)
    return min(mean(dist), integral(lambda u: min(quantile(u), cap)))
