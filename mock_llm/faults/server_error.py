"""An honest 5xx."""

from typing import Literal

import msgspec

from mock_llm.distributions import Distribution, quantile_function
from mock_llm.faults.base import FaultBase, Seconds
from mock_llm.plan import Plan

Status = Literal[500, 502, 503, 524, 529]

ERRORS: dict[Status, tuple[str, str]] = {
    500: ("server", "Internal Server Error"),
    502: ("provider_unavailable", "Provider returned error"),
    503: ("provider_overloaded", "Service temporarily unavailable"),
    524: ("timeout", "Request timed out. Please try again later."),
    529: ("provider_overloaded", "Provider returned error"),
}
"""Error type and message by status, as OpenRouter documents them."""


class ServerError(FaultBase, frozen=True, kw_only=True, tag="server_error"):
    """The provider refuses with a 5xx and its JSON error.

    Evidence: vercel/ai#7546 (bursts of 529 and 503), OpenRouter's error reference. Nothing is
    billed.

    Attributes:
        status: HTTP status; it decides the error type and the message.
        after_s: time to the refusal.
        retry_after_s: the hint that comes with it, or None.
    """

    status: Status = 503
    after_s: Distribution = 0.05
    retry_after_s: Seconds | None = None

    def strike(self, plan: Plan, uniform: float) -> Plan:
        """Return the refusal."""
        error, message = ERRORS[self.status]
        after_s = quantile_function(self.after_s)(uniform)
        return msgspec.structs.replace(
            plan,
            status=self.status,
            error=error,
            message=message,
            retry_after_s=self.retry_after_s,
            ending="refused",
            first_token_s=after_s,
            last_token_s=after_s,
            reply="",
            completion_tokens=0,
            finish_reason="stop",
            cached_tokens=0,
            cost_usd=0.0,
        )
