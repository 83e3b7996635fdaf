"""Bytes that are no text."""

import msgspec

from mock_llm.faults.base import FormFault
from mock_llm.faults.marked import marked
from mock_llm.plan import Plan


class InvalidUtf8(FormFault, frozen=True, kw_only=True, tag="invalid_utf8"):
    """A character of the answer has lost its last byte, so that the body is not UTF-8.

    Evidence: none from a real provider; `openai` raises `UnicodeDecodeError`. The character is a
    check mark that is added to the reply.
    """

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return the plan with a mark to be broken."""
        return msgspec.structs.replace(
            plan, reply=marked(plan.reply), forms=(*plan.forms, "invalid_utf8")
        )
