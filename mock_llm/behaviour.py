"""What the provider does: a `Call` and the time go in, a `Plan` of all that will happen comes out.

Theory of operation. `Provider` holds what a provider holds between calls: who called how often, who
is throttled, which models are warm. Everything random is keyed by the request and the number of the
attempt (see `rng`), so that the order of calls never changes the weather of any. There is no clock
and no byte in here: an HTTP server and a discrete-event twin drive the same objects. A new run
makes a new Provider.
"""

from collections.abc import Mapping

import msgspec

from mock_llm.config import Upstream
from mock_llm.counts import Counts
from mock_llm.fallback import after, fault_key, is_the_models, next_call, unknown_model
from mock_llm.faults import ArmedFault
from mock_llm.offer import Offer, compiled
from mock_llm.plan import Call, Plan
from mock_llm.quota import Quota, quota_of
from mock_llm.replies import TEXT_TOKENS, limited, padded, reply, words
from mock_llm.rng import Keyed
from mock_llm.shaped import Said, shaped
from mock_llm.structured import Unsatisfiable
from mock_llm.throttle import AccountWindows
from mock_llm.tokens import counter

TRANSIT_S = 1e-3
"""Greatest transit delay: it keeps any two arrivals from falling on one instant."""


class Provider:
    """The stand-in for OpenRouter.

    Attributes:
        upstream: what it imitates.
        seed: of its weather.
        answers: true label by request key; for other requests the truth is guessed from the text.
    """

    def __init__(
        self, upstream: Upstream, *, seed: int, answers: Mapping[str, str] | None = None
    ) -> None:
        weather = Keyed(seed)
        self.seed = seed
        self.answers: Mapping[str, str] = {} if answers is None else answers
        self._weather = weather
        self._transit = weather.stream("transit")
        self._label = weather.stream("label")
        self._shape = weather.stream("shape")
        self._arrived, self._admitted = Counts(), Counts()
        self._began: float | None = None
        self._offers: dict[str, Offer] = {}
        self._faults: list[ArmedFault] = []
        self._windows: AccountWindows | None = None
        self.change(upstream)

    def change(self, upstream: Upstream) -> None:
        """Be another upstream from the next attempt on.

        What stays as it was keeps its memory: how often a request was tried, who called how often,
        which models are warm, how many attempts a fault could have struck.
        """
        weather, offers = self._weather, self._offers
        armed = {(fault.name, fault.fault): fault for fault in self._faults}
        self.upstream = upstream
        self._offers = {}
        for name, model in upstream.models.items():
            profile, known = model.profile or upstream.profile, offers.get(name)
            same = known is not None and (known.model, known.profile) == (model, profile)
            self._offers[name] = known if known and same else Offer(model, profile, weather)
        limit = upstream.throttle.requests_per_min
        if limit is None:
            self._windows = None
        elif self._windows is None or self._windows.limit != limit:
            self._windows = AccountWindows(limit)
        self._faults = [
            armed.get((name, fault)) or ArmedFault(name, fault, weather.stream(f"fault:{name}"))
            for name, fault in upstream.faults.items()
        ]
        self._setup = compiled(weather, "setup", upstream.connection_setup)
        self._count = counter(upstream.token_counts)

    def transit_s(self, key: str) -> float:
        """Return how long an arriving attempt at this request travels before `admit` sees it."""
        return TRANSIT_S * self._transit(key, self._arrived.next(key))

    def admit(self, call: Call, now: float) -> Plan:
        """Decide everything that will happen to an attempt.

        Args:
            call: the attempt.
            now: seconds since any fixed origin; must not fall between calls.
        """
        if self._began is None:
            self._began = now
        refusal = self._refusal(call, now)
        if refusal is not None:
            return self._on_connection(refusal, call, -1)
        draw = self._admitted.next(call.key)
        plan = self._attempt(call, draw, now)
        for hop, model in enumerate(call.fallbacks, 1):
            if is_the_models(plan) and model in self._offers:
                again = self._attempt(next_call(call, hop), draw, now, hop)
                plan = after(plan, again, model)
        return plan

    def _attempt(self, call: Call, draw: int, now: float, hop: int = 0) -> Plan:
        """Decide what one model does; `hop` is its place in the request's list."""
        since_s = 0.0 if self._began is None else now - self._began
        offer = self._offers[call.model]
        plan = good = self._answer(call, offer, draw, now)
        struck = msgspec.structs.replace(call, key=fault_key(call, hop)) if hop else call
        for fault in self._faults:
            plan = fault.apply(plan, struck, draw, since_s)
        if plan.cost_usd and plan.completion_tokens != good.completion_tokens:
            unsaid = good.completion_tokens - plan.completion_tokens
            cost_usd = max(plan.cost_usd - unsaid * offer.completion_usd, 0.0)
            plan = msgspec.structs.replace(plan, cost_usd=cost_usd)
        if plan.ending == "refused":
            return self._on_connection(plan, call, draw)
        if offer.cache is not None:
            offer.cache.remember(call.prefix, now)
        return plan

    def quota(self, account: str, now: float) -> Quota:
        """Return what the account may still ask for; it counts nothing."""
        return quota_of(self._windows, account, now)

    def _refusal(self, call: Call, now: float) -> Plan | None:
        offer = self._offers.get(call.model)
        if offer is None:
            return _refused(call, *unknown_model(call.model, self.upstream.dialect))
        context = offer.model.context_length
        if call.prompt_tokens > context:
            message = (
                f"This endpoint's maximum context length is {context} tokens. "
                f"However, you requested about {call.prompt_tokens} tokens."
            )
            return _refused(call, 400, "context_length_exceeded", message)
        wait = None if self._windows is None else self._windows.admit(call.account, now)
        if wait is None:
            return None
        return _refused(call, 429, "rate_limit_exceeded", "Rate limit exceeded", wait)

    def _on_connection(self, refused: Plan, call: Call, draw: int) -> Plan:
        """Add the connection's set-up, which the first answer pays even if it is a refusal."""
        if not call.new_connection:
            return refused
        at = refused.first_token_s + self._setup(call.key, draw)
        return msgspec.structs.replace(refused, first_token_s=at, last_token_s=at)

    def _answer(self, call: Call, offer: Offer, draw: int, now: float) -> Plan:
        try:
            said, tool_calls = self._said(call, offer)
        except Unsatisfiable as error:
            return _refused(call, 400, "invalid_request", f"Invalid schema: {error}")
        cached = offer.cached_tokens(call, now)
        fresh = call.prompt_tokens - cached
        first = offer.first_token_s(call, draw, fresh, now)
        if call.new_connection:
            first += self._setup(call.key, draw)
        return Plan(
            first_token_s=first,
            last_token_s=first + max(said.tokens - 1, 0) * offer.itl(call.key, draw),
            reply=said.text,
            tool_calls=tool_calls,
            completion_tokens=said.tokens,
            finish_reason=said.finish_reason,
            prompt_tokens=call.prompt_tokens,
            cached_tokens=cached,
            cost_usd=fresh * offer.prompt_usd
            + cached * offer.cached_usd
            + said.tokens * offer.completion_usd,
            draw=draw,
        )

    def _said(self, call: Call, offer: Offer) -> Said:
        # Keyed by the request alone: a retry says the same as the attempt that it repeats.
        wanted = None if offer.output is None else max(1, round(offer.output(call.key, 0)))
        if self.upstream.reply == "text":
            text = words(wanted or TEXT_TOKENS)
        else:
            uniform = self._label(call.key, 0)
            text = reply(call.text, self.answers.get(call.key), offer.model.skill, uniform)
            text = padded(text, wanted or 0)
        if call.wants is None:
            return Said(limited(text, call.max_tokens, self._count))
        return shaped(
            call.wants,
            text,
            call.max_tokens,
            self._count,
            lambda path: self._shape(f"{call.key}\0{path}", 0),
        )


def _refused(
    call: Call, status: int, error: str, message: str, retry_after_s: float | None = None
) -> Plan:
    return Plan(
        status=status,
        error=error,
        message=message,
        retry_after_s=retry_after_s,
        ending="refused",
        prompt_tokens=call.prompt_tokens,
    )
