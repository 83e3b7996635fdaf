"""The silent hang."""

from typing import ClassVar

import msgspec

from mock_llm.faults.base import FaultBase
from mock_llm.plan import Plan


class HangBeforeHeaders(FaultBase, frozen=True, tag="hang_before_headers"):
    """The request is accepted and nothing ever comes back, not even a header.

    Evidence: openai-python#3054 (10-28 % of the calls at concurrency 5), strix#453. Only a time
    limit of the client ends it. The cost stays what a completed answer costs: whether an abandoned
    call is billed is the ledger's question.
    """

    anywhere: ClassVar[bool] = True

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return a plan that sends nothing."""
        return msgspec.structs.replace(plan, ending="hang")
