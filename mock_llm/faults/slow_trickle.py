"""An answer, byte by byte."""

import msgspec

from mock_llm.distributions import Distribution, quantile_function
from mock_llm.faults.base import FormFault
from mock_llm.plan import Plan


class SlowTrickle(FormFault, frozen=True, kw_only=True, tag="slow_trickle"):
    """The whole answer comes, in drips over a long time.

    Evidence: Bifrost ships a guard for it. Every read succeeds; only a limit on the whole call, or
    on the rate, sees it.

    Attributes:
        over_s: from the first of it to the last.
    """

    over_s: Distribution = 120.0

    def strike(self, plan: Plan, uniform: float) -> Plan:
        """Return the plan, drawn out."""
        over_s = quantile_function(self.over_s)(uniform)
        return msgspec.structs.replace(
            plan, last_token_s=plan.first_token_s + over_s, forms=(*plan.forms, "trickle")
        )
