"""Silence in the middle of an answer."""

import msgspec

from mock_llm.faults.base import Count, FaultBase, Share
from mock_llm.plan import Plan


class HangMidStream(FaultBase, frozen=True, kw_only=True, tag="hang_mid_stream"):
    """The answer stops half-way, and the connection stays open.

    Evidence: litellm#4050, agent-zero#1882. A limit on the time to the first token does not see it.

    Attributes:
        share: of the text that comes; of the body's bytes when the answer is no stream.
        after_chunks: so many events of text come in place of a share of them.
    """

    share: Share = 0.5
    after_chunks: Count | None = None

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return a plan that falls silent."""
        return msgspec.structs.replace(
            plan, ending="stall", reach="part", share=self.share, chunks=self.after_chunks
        )
