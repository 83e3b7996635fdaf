"""An answer that says nothing."""

from typing import Literal

import msgspec

from mock_llm.faults.base import FaultBase, unsaid
from mock_llm.plan import Plan


class EmptyContent(FaultBase, frozen=True, kw_only=True, tag="empty_content"):
    """A 200 with a choice whose content is null or "".

    Evidence: openai-agents-python#4510. With a finish reason the prompt is billed; without one
    nothing is.

    Attributes:
        content: `null` or `empty`.
        finish_reason: `stop`, `length`, or `null` for none.
    """

    content: Literal["null", "empty"] = "null"
    finish_reason: Literal["stop", "length", "null"] = "stop"

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return a plan without text."""
        said = unsaid(plan, "null_content" if self.content == "null" else None)
        if self.finish_reason == "null":
            return said
        return msgspec.structs.replace(
            said, finish_reason=self.finish_reason, cost_usd=plan.cost_usd
        )
