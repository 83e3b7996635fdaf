"""What the provider does: a `Call` and the time go in, a `Plan` of all that will happen comes out.

Theory of operation. `Provider` holds what a provider holds between calls: who called how often, who
is throttled, which models are warm. Everything random is keyed by the request and the number of the
attempt (see `rng`), so that the order of calls never changes the weather of any. There is no clock
and no byte in here: an HTTP server and a discrete-event twin drive the same objects. A new run
makes a new Provider.
"""

from collections.abc import Callable, Mapping

import msgspec

from mock_llm.admission import Admission, used_tokens
from mock_llm.config import Upstream
from mock_llm.counts import Memory
from mock_llm.drift import slowness
from mock_llm.fallback import after, fault_key, is_the_models, next_call, unknown_model
from mock_llm.faults import ArmedFault
from mock_llm.offer import FREE, Offer, compiled
from mock_llm.plan import Call, Plan, Quota
from mock_llm.quota import quota_of
from mock_llm.refusals import refusal
from mock_llm.regimes import Regimes
from mock_llm.replies import READ_CHARS, TEXT_TOKENS, Verdict, padded, verdict, words
from mock_llm.rng import HEDGE, Keyed, request_key
from mock_llm.shaped import Said, plain, shaped
from mock_llm.structured import Unsatisfiable
from mock_llm.tokens import counter

TRANSIT_S = 1e-3
"""Greatest transit delay: it keeps any two arrivals from falling on one instant."""


class Provider:
    """The stand-in for OpenRouter.

    Attributes:
        upstream: what it imitates.
        seed: of its weather.
        answers: true label by request key, or by `request_key` of the text; for other requests the
            truth is guessed.
        memory: what its weather needs of the past; its own, or shared with other processes.
        admission: throttle and credits.
        verdict: `replies.verdict`, or what remembers more of them.
        text_key: likewise of `rng.request_key`.
        text_of: gives the text of an answer, or None to leave it to the upstream's `reply`.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        seed: int,
        answers: Mapping[str, str] | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.upstream = upstream
        self.answers: Mapping[str, str] = {} if answers is None else answers
        self.memory = Memory() if memory is None else memory
        self.text_of: Callable[[Call], str | None] | None = None
        self.verdict: Callable[[str, str | None, float], Verdict] = verdict
        self.text_key: Callable[[str], str] = request_key
        self.admission = Admission()
        self._begin(seed)

    def _begin(self, seed: int) -> None:
        weather = Keyed(seed)
        self.seed = seed
        self._weather = weather
        self._transit = weather.stream("transit")
        self._label = weather.stream("label")
        self._shape = weather.stream("shape")
        self._offers: dict[str, Offer] = {}
        self._faults: list[ArmedFault] = []
        self._regimes: Regimes | None = None
        self.change(self.upstream)

    def reset(self, seed: int | None = None) -> None:
        """Forget all that has happened; the run begins anew.

        Args:
            seed: of the weather from now on; None: the same again.
        """
        self.memory.clear()
        self.admission = self.admission.emptied()
        self._begin(self.seed if seed is None else seed)

    def change(self, upstream: Upstream) -> None:
        """Be another upstream from the next attempt on.

        What stays as it was keeps its memory: how often a request was tried, who called how often,
        which models are warm, how many attempts a fault could have struck. What is spent of the
        credits stays spent, and what is under way stays so.
        """
        weather, offers = self._weather, self._offers
        armed = {(fault.name, fault.fault): fault for fault in self._faults}
        self.upstream = upstream
        self._offers = {}
        for name, model in upstream.models.items():
            profile, known = model.profile or upstream.profile, offers.get(name)
            same = known is not None and (known.model, known.profile) == (model, profile)
            self._offers[name] = known if known and same else Offer(model, profile, weather)
        self.admission.change(upstream)
        self._regimes = None if upstream.regime is None else Regimes(upstream.regime, weather)
        self._faults = [
            armed.get((name, fault)) or ArmedFault(name, fault, weather.stream(f"fault:{name}"))
            for name, fault in upstream.faults.items()
        ]
        self._tells_quota = upstream.dialect == "openai"
        self._steady = upstream.drift is None and upstream.regime is None
        self._setup = compiled(weather, "setup", upstream.connection_setup)
        self._count = counter(upstream.token_counts)

    def transit_s(self, key: str) -> float:
        """Return how long an arriving attempt at this request travels before `admit` sees it."""
        return TRANSIT_S * self._transit(key, self.memory.arrived.next(key))

    def admit(self, call: Call, now: float) -> Plan:
        """Decide everything that will happen to an attempt.

        Args:
            call: the attempt.
            now: seconds since any fixed origin; must not fall between calls.
        """
        began = self.memory.began(now)
        if call.route != "chat":
            return self._page(call, now - began)
        ticket = self._refusal(call, now, began)
        if isinstance(ticket, Plan):
            plan = msgspec.structs.replace(ticket, setup_s=self._setup_s(call, -1))
        else:
            draw = self.memory.admitted.next(call.key)
            plan = self._attempt(call, draw, now, now - began)
            for hop, model in enumerate(call.fallbacks, 1):
                if is_the_models(plan) and model in self._offers:
                    again = self._attempt(next_call(call, hop), draw, now, now - began, hop)
                    plan = after(plan, again, model)
            if ticket:
                plan = msgspec.structs.replace(plan, ticket=ticket)
        if self._tells_quota:
            plan = msgspec.structs.replace(plan, quota=self.quota(call.account, now))
        return plan

    def _attempt(self, call: Call, draw: int, now: float, since_s: float, hop: int = 0) -> Plan:
        """Decide what one model does; `hop` is its place in the request's list."""
        offer = self._offers[call.model]
        plan = self._answer(call, offer, draw, now)
        if self._faults:
            struck = msgspec.structs.replace(call, key=fault_key(call, hop)) if hop else call
            plan = self._billed(plan, self._struck(plan, struck, since_s), offer)
        if offer.cache is not None and plan.ending != "refused":
            offer.cache.remember(call.prefix, now)
        return plan

    @staticmethod
    def _billed(good: Plan, plan: Plan, offer: Offer) -> Plan:
        """What a fault has left of an answer costs so much less."""
        unsaid = good.completion_tokens - plan.completion_tokens
        if not (unsaid and plan.cost_usd):
            return plan
        cost_usd = max(plan.cost_usd - unsaid * offer.completion_usd, 0.0)
        return msgspec.structs.replace(plan, cost_usd=cost_usd)

    def finish(self, plan: Plan, completion_tokens: int, billed_usd: float) -> None:
        """End an attempt, whatever happened to it: exactly once, if its plan has a ticket.

        Args:
            plan: its plan.
            completion_tokens: as billed.
            billed_usd: dollars.
        """
        self.admission.finish(plan.ticket, used_tokens(plan, completion_tokens), billed_usd)

    @property
    def remembers(self) -> bool:
        """Whether it needs memory of earlier attempts beyond how often each request was tried."""
        warm = any(offer.cold or offer.cache for offer in self._offers.values())
        counted = any(fault.fault.first_n is not None for fault in self._faults)
        return warm or counted or not self.admission.is_open

    def _page(self, call: Call, since_s: float) -> Plan:
        """Plan an answer that no model gives: a 200 at once, for nothing, unless a fault strikes.

        Its weather is its own: endpoints that are asked in between shift nobody's draws.
        """
        call = msgspec.structs.replace(call, key=f"{call.route}:{call.key}")
        plan = Plan(finish_reason="", draw=self.memory.admitted.next(call.key))
        plan = msgspec.structs.replace(plan, setup_s=self._setup_s(call, plan.draw))
        return self._struck(plan, call, since_s)

    def _struck(self, plan: Plan, call: Call, since_s: float) -> Plan:
        if self._faults:
            times = "good" if self._regimes is None else self._regimes.at(since_s)
            for fault in self._faults:
                plan = fault.apply(plan, call, since_s, times)
        return plan

    def _pace(self, now: float) -> float:
        """Return what multiplies the times of an answer that begins now."""
        since_s = now - self.memory.began(now)
        drift, regime = self.upstream.drift, self.upstream.regime
        pace = 1.0 if drift is None else slowness(drift, since_s)
        if regime is not None and self._regimes and self._regimes.at(since_s) == "bad":
            pace *= regime.slowdown
        return pace

    def quota(self, account: str, now: float) -> Quota:
        """Return what the account may still ask for; it counts nothing."""
        return quota_of(self.admission.limits, account, now)

    def _refusal(self, call: Call, now: float, began: float) -> Plan | int:
        """Refuse an attempt, or return its ticket."""
        offer = self._offers.get(call.model)
        if offer is None and call.recording:  # what a cassette has is on offer, without a price
            offer = self._offers[call.model] = Offer(FREE, self.upstream.profile, self._weather)
        if offer is None or (offer.model is FREE and not call.recording):
            return refusal(call, *unknown_model(call.model, self.upstream.dialect))
        context = offer.model.context_length
        if call.prompt_tokens > context:
            message = (
                f"This endpoint's maximum context length is {context} tokens. "
                f"However, you requested about {call.prompt_tokens} tokens."
            )
            return refusal(call, 400, "context_length_exceeded", message)
        return 0 if self.admission.is_open else self.admission.admit(call, offer, now, began)

    def _setup_s(self, call: Call, draw: int) -> float:
        """Set-up of the connection, which the first answer pays even if it is a refusal."""
        return self._setup(call.key, draw) if call.new_connection else 0.0

    def _answer(self, call: Call, offer: Offer, draw: int, now: float) -> Plan:
        try:
            found = self._said(call, offer)
        except Unsatisfiable as error:
            return refusal(call, 400, "invalid_request", f"Invalid schema: {error}")
        said = found.reply
        cached = 0 if offer.cache is None else offer.cached_tokens(call, now)
        fresh = call.prompt_tokens - cached
        pace = 1.0 if self._steady else self._pace(now)
        first = pace * offer.first_token_s(call, draw, fresh, now)
        tokens = said.tokens
        more_s = pace * (tokens - 1) * offer.itl(call.key, draw) if tokens > 1 else 0.0
        return Plan(
            setup_s=self._setup_s(call, draw) if call.new_connection else 0.0,
            first_token_s=first,
            last_token_s=first + more_s,
            reply=said.text,
            tool_calls=found.tool_calls,
            completion_tokens=tokens,
            finish_reason=said.finish_reason,
            prompt_tokens=call.prompt_tokens,
            cached_tokens=cached,
            cost_usd=fresh * offer.prompt_usd
            + cached * offer.cached_usd
            + tokens * offer.completion_usd,
            draw=draw,
        )

    def _said(self, call: Call, offer: Offer) -> Said:
        if self.text_of is not None and (given := self.text_of(call)) is not None:
            return plain(given, None, call.max_tokens, self._count)
        # Keyed by the request alone: a retry says the same as the attempt that it repeats.
        key = call.key.removesuffix(HEDGE)
        wanted = offer.wanted(key)
        if self.upstream.reply == "text":
            text, wanted = words(wanted or TEXT_TOKENS), None
        else:
            truth = self.answers.get(key) if self.answers else None
            if truth is None and self.answers:  # not known by the request's key: by its text alone
                truth = self.answers.get(self.text_key(call.text))
            judged = self.verdict(call.text[:READ_CHARS], truth, offer.model.skill)
            text = judged.good if self._label(key, 0) < judged.right else judged.bad
        if call.wants is None:
            return plain(text, wanted, offer.cap(call), self._count)
        return shaped(
            call.wants,
            padded(text, wanted) if wanted else text,
            offer.cap(call),
            self._count,
            lambda path: self._shape(f"{key}\0{path}", 0),
        )
