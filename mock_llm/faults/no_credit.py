"""A 402 that passes."""

from typing import ClassVar

from mock_llm.distributions import Distribution, quantile_function
from mock_llm.faults.base import FaultBase, Seconds, refused
from mock_llm.plan import Plan


class NoCredit(FaultBase, frozen=True, kw_only=True, tag="no_credit"):
    """What is in flight has reserved the whole balance: 402, though the account has money.

    Evidence: OpenRouter's documentation of the in-flight budget. It is transient and caused by
    concurrency, yet no SDK tries a 402 again. Nothing is billed.

    Attributes:
        after_s: time to the refusal.
        retry_after_s: the hint that comes with it, or None.
    """

    anywhere: ClassVar[bool] = True

    after_s: Distribution = 0.05
    retry_after_s: Seconds | None = 5.0

    def strike(self, plan: Plan, uniform: float) -> Plan:
        """Return the refusal."""
        return refused(
            plan,
            402,
            "payment_required",
            "This request requires more credits, or fewer max_tokens.",
            at_s=quantile_function(self.after_s)(uniform),
            retry_after_s=self.retry_after_s,
            forms=("in_flight_budget",),
        )
