"""Events that come twice."""

from typing import ClassVar, Literal

import msgspec

from mock_llm.faults.base import FormFault
from mock_llm.plan import Plan


class DuplicatedChunks(FormFault, frozen=True, kw_only=True, tag="duplicated_chunks"):
    """Every event of a stream that carries text comes twice.

    Evidence: EvoScientist#313. No client can tell; what it puts together is wrong.
    """

    needs: ClassVar[Literal["stream", "whole"] | None] = "stream"

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return the plan, stuttering."""
        return msgspec.structs.replace(plan, forms=(*plan.forms, "duplicated"))
