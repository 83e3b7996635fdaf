"""A 429 that is not the throttle's."""

from typing import ClassVar, Literal

from mock_llm.distributions import Distribution, quantile_function
from mock_llm.faults.base import FaultBase, Seconds, refused
from mock_llm.plan import Form, Plan

Known = Literal["upstream_2025", "upstream_2026", "free_per_day", "free_per_minute", "bare"]
Place = Literal["headers", "body", "both"]

MESSAGES: dict[Known, str] = {
    "upstream_2025": "Provider returned error",
    "upstream_2026": "Provider returned error",
    "free_per_day": "Rate limit exceeded: free-models-per-day",
    "free_per_minute": "Rate limit exceeded: free-models-per-min",
    "bare": "Rate limit exceeded",
}
PLACES: dict[Place, tuple[Form, ...]] = {
    "both": (),
    "headers": ("hints_in_headers",),
    "body": ("hints_in_body",),
}


class RateLimited(FaultBase, frozen=True, kw_only=True, tag="rate_limited"):
    """The provider behind refuses with 429, whatever the account's own throttle says.

    Evidence: litellm#9035 (no Retry-After), OpenRouter's five forms of 2025 and 2026. A burst is a
    window of time. Nothing is billed.

    Attributes:
        form: `upstream_2025` names the provider and gives no hint, `upstream_2026` gives the wait,
            `free_per_day` and `free_per_minute` give X-RateLimit-* with the end of the day (00:00
            UTC) or minute, `bare` has nothing but its type.
        hints: where they are: real `headers`, metadata in the `body`, or `both`; sources disagree.
        retry_after_s: the wait that `upstream_2026` tells.
        after_s: time to the refusal.
    """

    anywhere: ClassVar[bool] = True

    form: Known = "upstream_2026"
    hints: Place = "both"
    retry_after_s: Seconds = 16.007
    after_s: Distribution = 0.05

    def strike(self, plan: Plan, uniform: float) -> Plan:
        """Return the refusal."""
        return refused(
            plan,
            429,
            "rate_limit_exceeded",
            MESSAGES[self.form],
            at_s=quantile_function(self.after_s)(uniform),
            retry_after_s=self.retry_after_s if self.form == "upstream_2026" else None,
            forms=(self.form, *PLACES[self.hints]),
        )
