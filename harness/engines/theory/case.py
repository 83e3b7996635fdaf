"""A scenario as the formulas see it: a law of service, and what they do not know of."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from math import inf
from typing import Literal

import msgspec

from harness.engines.base import Prepared
from harness.theory.general import Moments, moments, rising_quantile
from mock_llm.behaviour import TRANSIT_S
from mock_llm.config import Profile
from mock_llm.distributions import Constant, Distribution, Exponential, mean
from mock_llm.distributions.base import STANDARD, Quantile

SELDOM = 0.05
"""Requests, of a whole run, that may meet what a formula does not know of."""

NEAR = 0.9
"""Of a limit: from there on a mean below it says little about those who meet it."""


Kind = Literal["exact", "approximate", "screening", "bound"]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one formula says.

    Attributes:
        formula: its name.
        kind: what its figures are. Of `screening` ones none goes into a report's own figures.
        applies: whether the scenario grants what it takes for granted.
        why: how good it is; or why it does not apply.
        figures: report key (dotted) -> value; keys of its own where reports have none.
    """

    formula: str
    kind: Kind
    applies: bool
    why: str
    figures: dict[str, float]


class Case:
    """One prepared scenario.

    Attributes:
        scenario: as resolved.
        setup: connection set-up.
        service: an attempt's time at the provider on an open connection.
        quantile: of the same; None: it is a sum of several random parts, or of several models.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.prepared, self.scenario = prepared, prepared.scenario
        upstream, projection = self.scenario.upstream, prepared.projection
        self.setup = moments(upstream.connection_setup)
        each = {m: upstream.models[m].profile or upstream.profile for m in projection.distribution}
        self.profiles = tuple(dict.fromkeys(map(repr, each.values())))
        shares = list(projection.distribution.values())
        laws = [self._attempt(profile) for profile in each.values()]
        first = sum(share * law.mean for share, law in zip(shares, laws, strict=True))
        second = sum(
            share * law.mean**2 * (1 + law.cv2) for share, law in zip(shares, laws, strict=True)
        )
        self.service = Moments(first, max(0.0, second / first**2 - 1))
        self._used = list(each.values())
        alone = self._used[0] if len(self.profiles) == 1 else None
        self.quantile: Quantile | None = None
        if alone is not None and moments(alone.itl).cv2 == 0 and self._is_fixed(alone):
            raw, rest = rising_quantile(alone.ttft), first - mean(alone.ttft)
            self.quantile = lambda u: raw(u) + rest
        ttft = alone.ttft if alone is not None else 0.0
        plain = isinstance(ttft, Exponential) and not ttft.shift and ttft.cap is None
        # Transit, and what else is constant, must be next to nothing.
        self.exponential = plain and self.quantile is not None and first < 1.001 * mean(ttft)

    def _attempt(self, profile: Profile) -> Moments:
        projection = self.prepared.projection
        requests = max(1, projection.requests)
        prefill_s = profile.prefill_s_per_1k * projection.prompt_tokens / requests / 1000
        ttft, itl = moments(profile.ttft), moments(profile.itl)
        length = _length(profile.output_tokens, projection.completion_tokens / requests)
        body_s = itl.mean * length.mean
        body_var = body_s**2 * ((1 + itl.cv2) * (1 + length.cv2) - 1)
        first = ttft.mean + body_s + prefill_s + TRANSIT_S / 2
        return Moments(first, (ttft.mean**2 * ttft.cv2 + body_var) / first**2)

    @staticmethod
    def _is_fixed(profile: Profile) -> bool:
        """Whether all but the first token takes no time, or always as much."""
        fixed = profile.output_tokens is None or isinstance(profile.output_tokens, int | float)
        return fixed or isinstance(profile.output_tokens, Constant) or mean(profile.itl) == 0

    @cached_property
    def connected(self) -> Moments:
        """An attempt's time with what it takes to open a connection, where each opens its own."""
        if self.scenario.pipeline.pool:
            return self.service
        first = self.service.mean + self.setup.mean
        parts = (self.service, self.setup)
        return Moments(first, sum(one.mean**2 * one.cv2 for one in parts) / first**2)

    @property
    def think(self) -> Moments:
        """A user's pause between an answer and the next request."""
        return moments(self.scenario.workload.think)

    @property
    def connected_quantile(self) -> Quantile | None:
        """Of `connected`; None where it is not known."""
        quantile, setup_s = self.quantile, self.setup.mean
        if quantile is None or self.scenario.pipeline.pool or not setup_s:
            return quantile
        return None if self.setup.cv2 else lambda u: quantile(u) + setup_s

    def exceeds(self, limit_s: float) -> float:
        """Share of attempts that take longer; where only moments are known, at most so many."""
        quantile, law = self.connected_quantile, self.connected
        if quantile is None:  # Cantelli's inequality
            over = max(0.0, limit_s - law.mean) ** 2
            variance = law.mean**2 * law.cv2
            return variance / (variance + over) if over or variance else 1.0
        low, high = -8.0, 8.0
        if quantile(STANDARD.cdf(high)) <= limit_s:
            return 0.0
        while high - low > 1e-9:
            middle = (low + high) / 2
            low, high = (
                (middle, high) if quantile(STANDARD.cdf(middle)) <= limit_s else (low, middle)
            )
        return STANDARD.cdf(-low)

    def cost(self, requests: float) -> dict[str, float]:
        """What so many requests cost, as projected; nothing where the prompt is not known before.

        A service's conversations begin anew without a session, which the projection does not know.
        """
        projection, settings = self.prepared.projection, self.scenario.pipeline
        batch = self.scenario.workload.kind == "batch"
        cached = any(one.prompt_cache is not None for one in self._used)
        if cached or settings.cache or (settings.context is not None and not batch):
            return {}
        return {"cost_usd": requests * projection.per_request_usd}

    def obstacles(self, requests: float, per_s: float) -> list[str]:
        """What stands in the way of every formula, in words.

        Args:
            requests: of the whole run.
            per_s: attempts a second, as a formula has them.
        """
        return [
            *self.quickening(requests),
            *self._of_provider(per_s),
            *self._of_pipeline(requests, per_s),
        ]

    def quickening(self, requests: float) -> Iterator[str]:
        """What stands in the way even of bounds: it may make requests quicker than they are."""
        upstream, settings = self.scenario.upstream, self.scenario.pipeline
        for key in ("regime", "drift", "cassette"):
            if getattr(upstream, key) is not None:
                yield f"upstream.{key} is set"
        if any(one.prompt_cache is not None and one.prefill_s_per_1k for one in self._used):
            yield "prompts are cached"
        if settings.hedge is not None:
            yield "pipeline.hedge is set"
        repeats = self.prepared.corpus.guards.repeats_in_input
        if settings.cache and (repeats or requests > len(self.prepared.corpus.reviews)):
            yield "the cache answers repeats"
        limit_s = settings.attempt_timeout_s
        if limit_s is not None and (late := self.exceeds(limit_s)) * requests > SELDOM:
            yield f"{late:.2g} of the attempts take longer than their {limit_s:g} s"

    def _of_provider(self, per_s: float) -> Iterator[str]:
        upstream = self.scenario.upstream
        throttle, capacity = upstream.throttle, upstream.capacity
        if any(fault.rate > 0 for fault in upstream.faults.values()):
            yield "faults strike"
        if upstream.credits_usd is not None:
            yield "upstream.credits_usd is set"
        if any(one.cold_start is not None for one in self._used):
            yield "the service is cold at first"
        if capacity is not None and (capacity.full_speed, capacity.queue) != (None, None):
            yield "the provider slows down or refuses under load"
        if throttle.tokens_per_min is not None or throttle.concurrent is not None:
            yield "the provider's throttle limits tokens or concurrency"
        limit = throttle.requests_per_min
        if limit is not None and per_s * 60 > NEAR * limit:
            yield f"the provider admits {limit} a minute, and {per_s * 60:,.0f} are sent"

    def _of_pipeline(self, requests: float, per_s: float) -> Iterator[str]:
        settings, users = self.scenario.pipeline, self.scenario.workload.users
        for key in ("adaptive", "budget"):
            if getattr(settings, key) is not None:
                yield f"pipeline.{key} is set"
        limit = settings.rate_limit
        many = limit is not None and requests > limit * users  # fewer never fill a window
        if limit is not None and many and per_s * 60 > NEAR * limit * users:
            yield f"users may ask {limit} times a minute, and {per_s * 60 / users:,.0f} come"


def answer(
    formula: str, kind: Kind, good: str, figures: dict[str, float], obstacles: Sequence[str] = ()
) -> Answer:
    """A formula's answer: `good` says how good it is where nothing stands in its way."""
    finite = {key: value for key, value in figures.items() if abs(value) < inf}
    why = "; ".join(obstacles) or good
    return Answer(formula=formula, kind=kind, applies=not obstacles, why=why, figures=finite)


def _length(dist: Distribution | None, usual: float) -> Moments:
    """Tokens after the first."""
    tokens = Moments(usual, 0.0) if dist is None else moments(dist)
    rest = max(0.0, tokens.mean - 1)
    return Moments(rest, (tokens.mean / rest) ** 2 * tokens.cv2 if rest else 0.0)
