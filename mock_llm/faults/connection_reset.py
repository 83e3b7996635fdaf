"""A connection that is reset."""

from typing import ClassVar, Literal

import msgspec

from mock_llm.faults.base import FaultBase, Share, unsaid
from mock_llm.plan import Plan


class ConnectionReset(FaultBase, frozen=True, kw_only=True, tag="connection_reset"):
    """The connection is reset (TCP RST).

    Evidence: Aider#11. On a virtual clock connections are socket pairs, which know no reset: there
    it is closed without warning. One at the start is free: the model has not begun.

    Attributes:
        at: the `start`, in place of an answer, or in the middle of its `body`.
        share: of the body that comes before it.
    """

    anywhere: ClassVar[bool] = True

    at: Literal["start", "body"] = "start"
    share: Share = 0.5

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return a plan that ends with a reset."""
        if self.at == "start":
            return msgspec.structs.replace(unsaid(plan), ending="reset", reach="nothing")
        return msgspec.structs.replace(plan, ending="reset", reach="part", share=self.share)
