"""A stream that nobody asked for."""

from typing import ClassVar, Literal

import msgspec

from mock_llm.faults.base import FaultBase
from mock_llm.plan import Plan


class SseForJson(FaultBase, frozen=True, kw_only=True, tag="sse_for_json"):
    """Server-sent events where one JSON object was asked for.

    Evidence: CLIProxyAPI#417. It is billed: the model did its work.
    """

    needs: ClassVar[Literal["stream", "whole"] | None] = "whole"

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return the plan, to be sent as a stream."""
        return msgspec.structs.replace(plan, ending="end", forms=(*plan.forms, "events"))
