"""An answer that its provider broke off."""

from typing import Literal

import msgspec

from mock_llm.faults.base import FaultBase, Share
from mock_llm.faults.errors import ERRORS
from mock_llm.plan import Form, Plan

_FORMS: dict[str, tuple[Form, ...]] = {
    "finish_chunk": (),
    "usage_chunk": ("usage_chunk",),
    "string_code": ("string_code",),
}


class FinishError(FaultBase, frozen=True, kw_only=True, tag="finish_error"):
    """A 200 with part of the text, and `finish_reason: error`.

    Evidence: vercel/ai#10653. The status stays 200. Nothing is billed.

    Attributes:
        share: of the text that comes before it.
        code: the error's own code.
        variant: of a stream: `finish_chunk` has the error on its finish event, the last of all, as
            documented; `usage_chunk` has it on the event with the usage, whose finish reason is
            null, and `[DONE]` behind it; `string_code` is a finish event with the code
            "server_error". In an answer that is no stream only the code may differ.
    """

    share: Share = 0.5
    code: Literal[408, 429, 500, 502, 503] = 502
    variant: Literal["finish_chunk", "usage_chunk", "string_code"] = "finish_chunk"

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return a plan that breaks off and says so."""
        error, message = ERRORS[self.code]
        tokens = 0 if plan.tool_calls else int(plan.completion_tokens * self.share)
        span_s = plan.last_token_s - plan.first_token_s
        return msgspec.structs.replace(
            plan,
            error=error,
            message=message,
            ending="end",
            forms=(*plan.forms, *_FORMS[self.variant]),
            last_token_s=plan.first_token_s + span_s * self.share,
            reply=plan.reply[: int(len(plan.reply) * self.share)] if tokens else "",
            tool_calls=(),  # half a call is none
            completion_tokens=tokens,
            finish_reason="error",
            cost_usd=0.0,
        )
