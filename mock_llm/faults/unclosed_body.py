"""An answer without an end."""

import msgspec

from mock_llm.faults.base import FaultBase
from mock_llm.plan import Plan


class UnclosedBody(FaultBase, frozen=True, kw_only=True, tag="unclosed_body"):
    """All of the answer comes, and the HTTP body is never closed.

    Evidence: pi#7959. A client that stops reading at `[DONE]` has its answer; one that waits for
    the end of the body hangs with the answer in its hands.
    """

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return a plan that lacks only its end."""
        return msgspec.structs.replace(plan, ending="stall", reach="all")
