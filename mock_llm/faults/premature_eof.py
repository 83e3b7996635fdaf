"""A connection that is closed too early."""

from typing import ClassVar, Literal

import msgspec

from mock_llm.faults.base import Count, FaultBase, Share
from mock_llm.plan import Plan


class PrematureEof(FaultBase, frozen=True, kw_only=True, tag="premature_eof"):
    """The connection is closed in the middle of a body, whose end HTTP had promised.

    Evidence: openai-python#2065, openai-python#2356, aiohttp#4581.

    Attributes:
        share: of the body that comes.
        after_chunks: of a stream, so many events of text come in place of a share.
        framing: `chunked` lacks the last chunk, `length` falls short of its Content-Length. A
            stream is always chunked.
    """

    anywhere: ClassVar[bool] = True

    share: Share = 0.5
    after_chunks: Count | None = None
    framing: Literal["chunked", "length"] = "chunked"

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return a plan that breaks off."""
        short = ("short_length",) if self.framing == "length" else ()
        return msgspec.structs.replace(
            plan,
            ending="eof",
            reach="part",
            share=self.share,
            chunks=self.after_chunks,
            forms=(*plan.forms, *short),
        )
