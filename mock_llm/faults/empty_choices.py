"""An answer without an answer in it."""

from mock_llm.faults.base import FaultBase, unsaid
from mock_llm.plan import Plan


class EmptyChoices(FaultBase, frozen=True, kw_only=True, tag="empty_choices"):
    """A 200 whose `choices` are empty.

    Evidence: litellm PR#40252. Code that takes `choices[0]` falls over. Nothing is billed.
    """

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return a plan without choices."""
        return unsaid(plan, "no_choices")
