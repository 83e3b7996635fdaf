"""A character in two parts."""

import msgspec

from mock_llm.faults.base import FormFault
from mock_llm.faults.marked import marked
from mock_llm.plan import Plan


class SplitUtf8(FormFault, frozen=True, kw_only=True, tag="split_utf8"):
    """A character beyond ASCII is cut in two by a chunk's border.

    Evidence: vllm PR#38732. It is legal, and breaks clients that decode chunk by chunk. A check
    mark is added to the reply, whose other characters may all be ASCII.
    """

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return the plan with a mark to be cut."""
        return msgspec.structs.replace(
            plan, reply=marked(plan.reply), forms=(*plan.forms, "split_utf8")
        )
