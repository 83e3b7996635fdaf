"""What the faults share: how one decides whether it strikes."""

from typing import Annotated

import msgspec
from msgspec import Meta

from mock_llm.plan import Plan

Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]


class FaultBase(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    """One way in which a provider fails.

    Attributes:
        rate: share of the attempts that it strikes.
    """

    rate: Share

    def apply(self, plan: Plan, name: str, uniform: float) -> Plan:
        """Return what becomes of a plan: itself, unless the fault strikes.

        Args:
            plan: what would happen without the fault; one that already fails is left alone.
            name: the scenario's name for this fault, noted in `Plan.injected`.
            uniform: of the stream `fault:<name>`, in (0, 1); it strikes below `rate`.
        """
        if uniform >= self.rate or plan.ending != "clean":
            return plan
        # Given that it strikes, the rescaled uniform is again uniform in (0, 1).
        struck = self.strike(plan, uniform / self.rate)
        return msgspec.structs.replace(struck, injected=(*plan.injected, name))

    def strike(self, plan: Plan, uniform: float) -> Plan:
        """Return the failed plan; `uniform` is in (0, 1) and free to use."""
        raise NotImplementedError
