"""A stream without its end mark."""

from typing import ClassVar, Literal

import msgspec

from mock_llm.faults.base import Count, FaultBase, Share
from mock_llm.plan import Plan


class NoDone(FaultBase, frozen=True, kw_only=True, tag="no_done"):
    """A stream ends as HTTP wants it, but without `[DONE]`.

    Evidence: big-AGI#980. Both official SDKs take it for success, with half of the text as well.

    Attributes:
        share: of the text that comes; with 1 the finish and usage events come too, and only the
            mark is missing.
        after_chunks: so many events of text come in place of a share, and nothing behind them.
    """

    needs: ClassVar[Literal["stream", "whole"] | None] = "stream"

    share: Share = 1.0
    after_chunks: Count | None = None

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return a plan that ends too early."""
        reach = "done" if self.share == 1 and self.after_chunks is None else "part"
        return msgspec.structs.replace(
            plan, ending="end", reach=reach, share=self.share, chunks=self.after_chunks
        )
