"""An honest 5xx, or 408."""

from typing import ClassVar, Literal

from mock_llm.distributions import Distribution, quantile_function
from mock_llm.faults.base import FaultBase, Seconds, refused
from mock_llm.faults.errors import ERRORS
from mock_llm.plan import Plan


class ServerError(FaultBase, frozen=True, kw_only=True, tag="server_error"):
    """The provider refuses with a 5xx or 408 and its JSON error.

    Evidence: vercel/ai#7546 (bursts of 529 and 503), OpenRouter's error reference. Nothing is
    billed. A burst is a window of time; `html_error` sends a page in place of the JSON.

    Attributes:
        status: HTTP status; it decides the error type and the message.
        after_s: time to the refusal.
        retry_after_s: the hint that comes with it, or None.
    """

    anywhere: ClassVar[bool] = True

    status: Literal[408, 500, 502, 503, 524, 529] = 503
    after_s: Distribution = 0.05
    retry_after_s: Seconds | None = None

    def strike(self, plan: Plan, uniform: float) -> Plan:
        """Return the refusal."""
        at_s = quantile_function(self.after_s)(uniform)
        words = ERRORS[self.status]
        return refused(plan, self.status, *words, at_s=at_s, retry_after_s=self.retry_after_s)
