"""A hang that looks alive."""

import msgspec

from mock_llm.faults.base import FaultBase, Share
from mock_llm.plan import Plan


class KeepAliveHang(FaultBase, frozen=True, kw_only=True, tag="keep_alive_hang"):
    """Keep-alives for ever: comments on a stream, white space before a body that never comes.

    Evidence: NeuralNote#249, opencode#43519; calls of more than 10 and 19 minutes. It defeats every
    limit on a single read. "For ever" are six hours, after which it falls silent.

    Attributes:
        share: of the text that comes first; 0: the headers alone.
    """

    share: Share = 0.0

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return a plan that never ends."""
        reach = "part" if self.share else "headers"
        return msgspec.structs.replace(plan, ending="keep_alive", reach=reach, share=self.share)
