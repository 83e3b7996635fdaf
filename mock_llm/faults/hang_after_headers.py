"""Headers, then silence."""

import msgspec

from mock_llm.faults.base import FaultBase
from mock_llm.plan import Plan


class HangAfterHeaders(FaultBase, frozen=True, kw_only=True, tag="hang_after_headers"):
    """A 200 is promised, and its body never begins.

    Evidence: openai-node#1825 (37 minutes), deepagents#2423 (5 % of the calls; a CI run of 6 h). A
    limit on the time to headers does not see it.
    """

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return a plan that ends behind the headers."""
        return msgspec.structs.replace(plan, ending="stall", reach="headers")
