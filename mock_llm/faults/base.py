"""What the faults share: whom and when one may strike, and how it decides whether it does."""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from mock_llm.faults.window import check_window, intensity
from mock_llm.plan import Call, Form, Plan, Route

Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Count = Annotated[int, Meta(ge=0, le=10**9)]
Positive = Annotated[int, Meta(ge=1, le=10**9)]
Times = Literal["good", "bad"]


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
        ramp_s: its rate climbs from 0 for so long after `from_s`, and falls back to 0 for so long
            before `until_s`: refusals come in bursts that grow (vercel/ai#7546).
        every_s: the window comes again after so long, over and over; None: once.
        first_n: only the run's first so many attempts that it could strike; None: all of them.
        regimes: only in these times, see `mock_llm.config.Regime`; empty: in any.
        routes: the endpoints that it strikes.
        needs: (of the class) it makes sense for a `stream` or for a `whole` answer only.
        anywhere: (of the class) it may strike any endpoint, not only `chat`.
    """

    needs: ClassVar[Literal["stream", "whole"] | None] = None
    anywhere: ClassVar[bool] = False

    rate: Share
    models: tuple[str, ...] = ()
    from_s: Seconds = 0.0
    until_s: Seconds | None = None
    ramp_s: Seconds = 0.0
    every_s: Seconds | None = None
    first_n: Count | None = None
    regimes: tuple[Times, ...] = ()
    routes: Annotated[tuple[Route, ...], Meta(min_length=1)] = ("chat",)

    def __post_init__(self) -> None:
        """Refuse a window that cannot be, and endpoints that cannot fail so."""
        check_window(self.from_s, self.until_s, self.ramp_s, self.every_s)
        elsewhere = [route for route in self.routes if route != "chat"]
        if elsewhere and not self.anywhere:
            msg = f"routes must be ['chat'] for a fault of this kind, not {elsewhere[0]!r}"
            raise ValueError(msg)
        if elsewhere and self.models:
            msg = f"models are named, and the route {elsewhere[0]!r} has none"
            raise ValueError(msg)

    def rate_at(self, since_s: float) -> float:
        """Its rate at a time of the run: 0 outside its window, less on a ramp."""
        if self.until_s is None and not self.ramp_s:
            return self.rate if self.from_s <= since_s else 0.0
        window = (self.from_s, self.until_s, self.ramp_s, self.every_s)
        return self.rate * intensity(since_s, *window)

    def concerns(self, call: Call, times: Times) -> bool:
        """Whether it could strike an attempt in such times."""
        if call.route not in self.routes:
            return False
        if self.regimes and times not in self.regimes:
            return False
        if self.needs is not None and call.stream != (self.needs == "stream"):
            return False
        return not self.models or call.model in self.models

    def leaves(self, plan: Plan) -> bool:
        """Whether it has to leave a plan alone: one that already fails."""
        return plan.ending != "clean"

    def apply(self, plan: Plan, name: str, uniform: float, rate: float | None = None) -> Plan:
        """Return what becomes of a plan: itself, unless the fault strikes.

        Args:
            plan: what would happen without the fault.
            name: the scenario's name for this fault, noted in `Plan.injected`.
            uniform: of the stream `fault:<name>`, in (0, 1); it strikes below the rate.
            rate: in place of the usual one.
        """
        rate = self.rate if rate is None else rate
        if uniform >= rate or self.leaves(plan):
            return plan
        # Given that it strikes, the rescaled uniform is again uniform in (0, 1).
        struck = self.strike(plan, uniform / rate)
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

    def apply(self, plan: Plan, call: Call, since_s: float, times: Times) -> Plan:
        """Return what becomes of a plan; see `FaultBase`.

        Args:
            plan: what would happen without the fault; its draw is the fault's too.
            call: the attempt.
            since_s: seconds since the run's first attempt was admitted.
            times: the regime.
        """
        fault = self.fault
        if not fault.concerns(call, times) or not (rate := fault.rate_at(since_s)):
            return plan
        self._seen += 1
        if fault.first_n is not None and self._seen > fault.first_n:
            return plan
        return fault.apply(plan, self.name, self._uniform(call.key, plan.draw), rate)


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
        tape=None,
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
