"""A web page where JSON was promised."""

from typing import ClassVar, Literal

import msgspec

from mock_llm.distributions import Distribution, quantile_function
from mock_llm.faults.base import FaultBase, refused, unsaid
from mock_llm.faults.errors import ERRORS
from mock_llm.plan import Plan


class HtmlError(FaultBase, frozen=True, kw_only=True, tag="html_error"):
    """Cloudflare answers in the provider's place, with its HTML page.

    Evidence: qwen-code#7665, AutoGPT#944. With status 200 it is a page all the same: `openai` hands
    it over as a `str`. Nothing is billed.

    Attributes:
        status: HTTP status of the page.
        after_s: time to it.
    """

    anywhere: ClassVar[bool] = True

    status: Literal[200, 408, 500, 502, 503, 520, 522, 524, 529] = 502
    after_s: Distribution = 0.05

    def strike(self, plan: Plan, uniform: float) -> Plan:
        """Return the refusal, or the 200 that is none."""
        at_s = quantile_function(self.after_s)(uniform)
        if self.status != 200:
            return refused(plan, self.status, *ERRORS[self.status], at_s=at_s, forms=("html",))
        page = unsaid(plan, "html")
        return msgspec.structs.replace(page, first_token_s=at_s, last_token_s=at_s)
