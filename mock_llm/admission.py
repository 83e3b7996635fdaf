"""Who may come in: the throttle's limits and the account's credits, held until an attempt ends.

Theory of operation. An attempt is let in only if every limit and the balance have room for it, and
only then counts against any of them: one that is refused consumes nothing. What must be given back
at its end is kept under a ticket.
"""

from math import inf
from typing import NamedTuple

from mock_llm.config import Throttle, Upstream
from mock_llm.credits import Credits
from mock_llm.faults.rate_limited import MESSAGES, PLACES
from mock_llm.offer import Offer
from mock_llm.plan import Call, Plan
from mock_llm.refusals import refusal
from mock_llm.throttle import Entry, Limits, counts_until_s

IN_FLIGHT_RETRY_S = 5.0
"""Hint of a 402 that passes: a guess, for nobody knows when an answer ends."""


class _Held(NamedTuple):
    """What an attempt gives back when it ends: a place under way, tokens, a reservation."""

    caller: str | None
    tokens: Entry | None
    reserved: int | None


class Admission:
    """Lets attempts in, or refuses them.

    Attributes:
        limits: of the throttle.
        credits: of the account.
        is_open: nothing limits anybody, and nobody needs to ask.
    """

    def __init__(self) -> None:
        self.limits = Limits(Throttle())
        self.credits = Credits()
        self.is_open = True
        self._held: dict[int, _Held] = {}
        self._tickets = 0

    def change(self, upstream: Upstream) -> None:
        """Limit as another upstream does; what is counted stays counted where the limit stays."""
        self.limits = Limits(upstream.throttle, self.limits)
        self.credits.change(upstream.credits_usd)
        limits = upstream.throttle
        per_min = (limits.requests_per_min, limits.tokens_per_min)
        self.is_open = (*per_min, limits.concurrent, upstream.credits_usd) == (None,) * 4

    def emptied(self) -> "Admission":
        """Return a new one whose tickets are no old one's, for attempts may still be under way."""
        new = Admission()
        new._tickets = self._tickets
        return new

    @property
    def under_way(self) -> int:
        """Attempts that hold something."""
        return len(self._held)

    def admit(self, call: Call, offer: Offer, now: float, began: float) -> Plan | int:
        """Let an attempt in and return its ticket (0: it holds nothing), or refuse it.

        Args:
            call: the attempt.
            offer: the model.
            now: seconds; must not fall between calls.
            began: when the run did.
        """
        limits, caller = self.limits, self.limits.caller(call.account)
        tokens = call.prompt_tokens + (call.max_tokens or 0)
        met = limits.wait_s(caller, now, tokens)
        if met is not None:
            return _throttled(call, limits.settings, tokens, *met)
        cost_usd = offer.greatest_usd(call) if self.credits.limited else 0.0
        if self.credits.limited and (covered := self.credits.covers(cost_usd)) != "yes":
            return _unpaid(call, passes=covered == "later")
        return self._take(
            caller, tokens, cost_usd, counts_until_s(limits.settings.window, now, began)
        )

    def _take(self, caller: str, tokens: int, cost_usd: float, until_s: float) -> int:
        limits = self.limits
        if limits.requests is not None:
            limits.requests.take(caller, until_s)
        counted = limits.settings.concurrent is not None
        held = _Held(
            caller if counted else None,
            None if limits.tokens is None else limits.tokens.take(caller, until_s, tokens),
            self.credits.reserve(cost_usd) if self.credits.limited else None,
        )
        if counted:
            limits.under_way[caller] += 1
        if held == (None, None, None):
            return 0
        self._tickets += 1
        self._held[self._tickets] = held
        return self._tickets

    def finish(self, ticket: int, tokens: int, billed_usd: float) -> None:
        """End an attempt: count what it used and was billed; a second time changes nothing."""
        held = self._held.pop(ticket, None)
        if held is None:
            return
        if held.tokens is not None:
            held.tokens.settle(tokens)
        if held.reserved is not None:
            self.credits.settle(held.reserved, billed_usd)
        if held.caller is not None:
            under_way = self.limits.under_way
            under_way[held.caller] -= 1
            if not under_way[held.caller]:
                del under_way[held.caller]


def used_tokens(plan: Plan, completion_tokens: int) -> int:
    """What an attempt really took of the tokens per minute: nothing, when it was refused."""
    return plan.prompt_tokens + completion_tokens if plan.status == 200 else 0


def _throttled(call: Call, throttle: Throttle, tokens: int, wait_s: float, limit: int) -> Plan:
    form = throttle.form
    message = "Rate limit exceeded"
    if form in {"free_per_day", "free_per_minute"}:
        message = MESSAGES[form]
    per_min = throttle.tokens_per_min
    if per_min is not None and tokens > per_min:
        message = f"Request too large: {tokens} tokens, and the limit is {per_min} per minute"
    known = wait_s < inf and form not in {"upstream_2025", "bare"}
    return refusal(
        call,
        429,
        "rate_limit_exceeded",
        message,
        retry_after_s=wait_s if known else None,
        forms=(form, *PLACES[throttle.hints]),
        limit=limit,
    )


def _unpaid(call: Call, *, passes: bool) -> Plan:
    if passes:
        return refusal(
            call,
            402,
            "payment_required",
            "This request requires more credits, or fewer max_tokens.",
            retry_after_s=IN_FLIGHT_RETRY_S,
            forms=("in_flight_budget",),
        )
    return refusal(call, 402, "payment_required", "Insufficient credits")
