"""An error that calls itself a success."""

from typing import Literal

import msgspec

from mock_llm.faults.base import FaultBase, unsaid
from mock_llm.faults.errors import ERRORS
from mock_llm.plan import Plan


class ErrorIn200(FaultBase, frozen=True, kw_only=True, tag="error_in_200"):
    """HTTP status 200, and a body that holds an error and no choices.

    Evidence: OpenJarvis#970, vercel/ai#10653 (overload inside a 200 stream). OpenRouter answers so
    once the model has started. `openai` gives `choices=None`. Nothing is billed.

    Attributes:
        code: the error's own code.
    """

    code: Literal[408, 429, 500, 502, 503] = 502

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return a plan that says the error."""
        error, message = ERRORS[self.code]
        said = f"Upstream error: {message}"
        return msgspec.structs.replace(unsaid(plan, "error_body"), error=error, message=said)
