"""Keep-alives, then nothing."""

import msgspec

from mock_llm.distributions import Distribution, quantile_function
from mock_llm.faults.base import FaultBase, unsaid
from mock_llm.plan import Plan


class WhitespaceThenEof(FaultBase, frozen=True, kw_only=True, tag="whitespace_then_eof"):
    """A slow 200 that ends properly without a single byte of JSON, or of events.

    Evidence: nanobot#2288, Aider#3219 ("Expecting value: line 2k+1 column 1 (char 11k)"). Nothing
    is billed: no token, no finish reason.

    Attributes:
        after_s: time to the end, of keep-alives alone.
    """

    after_s: Distribution = 10.0

    def strike(self, plan: Plan, uniform: float) -> Plan:
        """Return a plan of white space."""
        after_s = quantile_function(self.after_s)(uniform)
        return msgspec.structs.replace(
            unsaid(plan), reach="headers", first_token_s=after_s, last_token_s=after_s
        )
