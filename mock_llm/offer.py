"""A model on offer: its profile compiled, its prices by the token, and what it remembers."""

from collections.abc import Callable

from mock_llm.config import Model, Profile
from mock_llm.distributions import Constant, Distribution, quantile_function
from mock_llm.plan import Call
from mock_llm.rng import Keyed
from mock_llm.warmth import ColdStartState, PrefixCache

Draw = Callable[[str, int], float]
FREE = Model(prompt_usd_per_m=0.0, completion_usd_per_m=0.0, context_length=10**9)


class Offer:
    """One model of one run. Draws take (request key, draw number) to seconds or tokens."""

    def __init__(self, model: Model, profile: Profile, weather: Keyed) -> None:
        self.model, self.profile = model, profile
        self.ttft = compiled(weather, "ttft", profile.ttft)
        self.itl = compiled(weather, "itl", profile.itl)
        wanted = profile.output_tokens
        fixed = None if wanted is None else constant(wanted)
        self._length = None if fixed is None else _whole(fixed)
        self._output = None
        if wanted is not None and fixed is None:
            self._output = compiled(weather, "output", wanted)
        self.prefill_s = profile.prefill_s_per_1k / 1000
        cold, cache = profile.cold_start, profile.prompt_cache
        self.cold = None if cold is None else ColdStartState(cold)
        self.cold_extra = compiled(weather, "cold", 0.0 if cold is None else cold.extra_s)
        self.cache = None if cache is None else PrefixCache(cache)
        self.prompt_usd = model.prompt_usd_per_m / 1e6
        self.cached_usd = self.prompt_usd * (1.0 if cache is None else cache.price_ratio)
        self.completion_usd = model.completion_usd_per_m / 1e6

    def wanted(self, key: str) -> int | None:
        """Return how many tokens a request's answer has, or None: as many as it happens to have."""
        return self._length if self._output is None else _whole(self._output(key, 0))

    def cap(self, call: Call) -> int:
        """Return the most tokens that a completion can have."""
        most = self.model.max_completion_tokens
        asked = call.max_tokens
        return most if asked is None or asked > most else asked

    def greatest_usd(self, call: Call) -> float:
        """Return the most that an attempt can cost: all of its prompt fresh, and its whole cap."""
        return call.prompt_tokens * self.prompt_usd + self.cap(call) * self.completion_usd

    def first_token_s(self, call: Call, draw: int, fresh_tokens: int, now: float) -> float:
        """Return the time to first token without connection set-up."""
        wait = self.ttft(call.key, draw) + self.prefill_s * fresh_tokens
        share = 0.0 if self.cold is None else self.cold.share(now)
        return wait + share * self.cold_extra(call.key, draw) if share else wait

    def cached_tokens(self, call: Call, now: float) -> int:
        """Return how much of the prompt the cache holds."""
        if self.cache is None:
            return 0
        return min(self.cache.cached_tokens(call.prefix, now), call.prompt_tokens)


def compiled(weather: Keyed, stream: str, dist: Distribution) -> Draw:
    """Compile a distribution into (key, draw) to value; a constant needs no hash."""
    value = constant(dist)
    if value is not None:
        return lambda _key, _draw: value
    quantile, uniform = quantile_function(dist), weather.stream(stream)
    return lambda key, draw: quantile(uniform(key, draw))


def constant(dist: Distribution) -> float | None:
    """Return the one value that a distribution has; None: it has more."""
    return quantile_function(dist)(0.5) if isinstance(dist, int | float | Constant) else None


def _whole(tokens: float) -> int:
    return max(1, round(tokens))
