"""A 4xx that no second try repairs."""

from typing import Literal

from mock_llm.distributions import Distribution, quantile_function
from mock_llm.faults.base import FaultBase, refused
from mock_llm.plan import Plan

_ERRORS = {
    400: ("invalid_request", "Invalid request parameters"),
    401: ("authentication", "User not found."),
    402: ("payment_required", "Insufficient credits. Add more and try again."),
    404: ("not_found", "No endpoints found that can serve this request."),
    413: ("payload_too_large", "Request payload too large"),
    422: ("unprocessable", "Invalid argument"),
}


class Rejected(FaultBase, frozen=True, kw_only=True, tag="rejected"):
    """A request that was good a moment ago is refused with a 4xx.

    Evidence: chatbox#2743 and zed#36094 (404), comfyui-mcp#2221 and hermes-agent#96739 (413, once
    for want of capacity), OpenRouter's error reference. Nothing is billed.

    Attributes:
        status: HTTP status; it decides the error type and the message.
        after_s: time to the refusal.
    """

    status: Literal[400, 401, 402, 404, 413, 422] = 404
    after_s: Distribution = 0.05

    def strike(self, plan: Plan, uniform: float) -> Plan:
        """Return the refusal."""
        at_s = quantile_function(self.after_s)(uniform)
        return refused(plan, self.status, *_ERRORS[self.status], at_s=at_s)
