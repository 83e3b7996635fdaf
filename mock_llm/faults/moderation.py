"""A 403: the input was flagged."""

from mock_llm.distributions import Distribution, quantile_function
from mock_llm.faults.base import FaultBase, refused
from mock_llm.plan import Plan


class Moderation(FaultBase, frozen=True, kw_only=True, tag="moderation"):
    """A moderated model refuses the input: 403, with what it was flagged for.

    Evidence: OpenRouter's error reference (`metadata` with `reasons`, at most 100 characters of the
    `flagged_input`, `provider_name` and `model_slug`). Another model of the request's list may
    answer. Nothing is billed.

    Attributes:
        reasons: what the input is flagged for.
        after_s: time to the refusal.
    """

    reasons: tuple[str, ...] = ("harassment",)
    after_s: Distribution = 0.05

    def strike(self, plan: Plan, uniform: float) -> Plan:
        """Return the refusal."""
        named = ", ".join(f'"{one}"' for one in self.reasons)
        return refused(
            plan,
            403,
            "permission_denied",
            f"Your input was flagged for {named}. No credits were charged.",
            at_s=quantile_function(self.after_s)(uniform),
            forms=("moderation",),
            reasons=self.reasons,
        )
