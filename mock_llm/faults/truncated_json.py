"""Half of a JSON text."""

import msgspec

from mock_llm.faults.base import FaultBase, Share
from mock_llm.plan import Plan


class TruncatedJson(FaultBase, frozen=True, kw_only=True, tag="truncated_json"):
    """The body ends properly in the middle of its JSON; a stream, in the middle of an event.

    Evidence: cline#60.

    Attributes:
        share: of the body, or of the stream's text, that comes.
    """

    share: Share = 0.5

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return a plan with half of its JSON."""
        return msgspec.structs.replace(
            plan, ending="end", reach="part", share=self.share, forms=(*plan.forms, "torn")
        )
