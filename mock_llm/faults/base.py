"""What the faults share: whom and when one may strike, and how it decides whether it does."""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from mock_llm.plan import Call, Form, Plan

Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Count = Annotated[int, Meta(ge=0, le=10**9)]
Positive = Annotated[int, Meta(ge=1, le=10**9)]


class FaultBase(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    """One way in which a provider fails.

    Faults chain in the order of the scenario. The first that decides how an attempt ends is the
    only one to do so; those that only change how an answer is sent (`FormFault`) add up.

    Attributes:
        rate: share of the attempts that it strikes.
        models: only these; empty: every model.
        from_s: not before this time, in seconds since the run's first attempt was admitted.
        until_s: only before this time; None: to the end.
        first_n: only the run's first so many attempts that it could strike; None: all of them.
        needs: (of the class) it makes sense for a `stream` or for a `whole` answer only.
    """

    needs: ClassVar[Literal["stream", "whole"] | None] = None

    rate: Share
    models: tuple[str, ...] = ()
    from_s: Seconds = 0.0
    until_s: Seconds | None = None
    first_n: Count | None = None

    def concerns(self, call: Call, since_s: float) -> bool:
        """Whether it could strike an attempt at this time of the run."""
        if self.needs is not None and call.stream != (self.needs == "stream"):
            return False
        if self.models and call.model not in self.models:
            return False
        return self.from_s <= since_s and (self.until_s is None or since_s < self.until_s)

    def leaves(self, plan: Plan) -> bool:
        """Whether it has to leave a plan alone: one that already fails."""
        return plan.ending != "clean"

    def apply(self, plan: Plan, name: str, uniform: float) -> Plan:
        """Return what becomes of a plan: itself, unless the fault strikes.

        Args:
            plan: what would happen without the fault.
            name: the scenario's name for this fault, noted in `Plan.injected`.
            uniform: of the stream `fault:<name>`, in (0, 1); it strikes below `rate`.
        """
        if uniform >= self.rate or self.leaves(plan):
            return plan
        # Given that it strikes, the rescaled uniform is again uniform in (0, 1).
        struck = self.strike(plan, uniform / self.rate)
        return msgspec.structs.replace(struck, injected=(*plan.injected, name))

    def strike(self, plan: Plan, uniform: float) -> Plan:
        """Return the failed plan; `uniform` is in (0, 1) and free to use."""
        raise NotImplementedError


class FormFault(FaultBase, frozen=True, kw_only=True):
    """A fault in how an answer is sent; it goes with every ending that still sends text."""

    def leaves(self, plan: Plan) -> bool:
        """Whether there is no text to send."""
        silent = plan.ending in {"hang", "refused"} or plan.reach in {"nothing", "headers"}
        return silent or not (plan.reply or plan.tool_calls)


class ArmedFault:
    """A fault in a run: it knows how many attempts it could have struck.

    Args:
        name: the scenario's name for it.
        fault: its settings.
        uniform: its stream: (request key, draw) to a uniform.
    """

    def __init__(self, name: str, fault: FaultBase, uniform: Callable[[str, int], float]) -> None:
        self.name, self.fault = name, fault
        self._uniform = uniform
        self._seen = 0

    def apply(self, plan: Plan, call: Call, draw: int, since_s: float) -> Plan:
        """Return what becomes of a plan; see `FaultBase`.

        Args:
            plan: what would happen without the fault.
            call: the attempt.
            draw: which draw of its request's weather it uses.
            since_s: seconds since the run's first attempt was admitted.
        """
        fault = self.fault
        if not fault.concerns(call, since_s):
            return plan
        self._seen += 1
        if fault.first_n is not None and self._seen > fault.first_n:
            return plan
        return fault.apply(plan, self.name, self._uniform(call.key, draw))


def refused(
    plan: Plan,
    status: int,
    error: str,
    message: str,
    *,
    at_s: float,
    retry_after_s: float | None = None,
    forms: tuple[Form, ...] = (),
    reasons: tuple[str, ...] = (),
) -> Plan:
    """Return the plan of a refusal: nothing is said, nothing billed."""
    return msgspec.structs.replace(
        plan,
        status=status,
        error=error,
        message=message,
        reasons=reasons,
        retry_after_s=retry_after_s,
        ending="refused",
        forms=forms,
        first_token_s=at_s,
        last_token_s=at_s,
        reply="",
        tool_calls=(),
        completion_tokens=0,
        finish_reason="stop",
        cached_tokens=0,
        cost_usd=0.0,
    )


def unsaid(plan: Plan, form: Form | None = None) -> Plan:
    """Return the plan of a 200 that says nothing, for nothing: no tokens, no finish reason."""
    return msgspec.structs.replace(
        plan,
        ending="end",
        forms=() if form is None else (form,),
        last_token_s=plan.first_token_s,
        reply="",
        tool_calls=(),
        completion_tokens=0,
        finish_reason="",
        cost_usd=0.0,
    )
