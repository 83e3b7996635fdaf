"""A circuit breaker as a table: what is done in which state, and where that leads.

Theory of operation (Nygard, Release It!, 2007; the settings are those of resilience4j). Closed,
calls go through and their outcomes are counted. When too many of late have failed it opens: calls
are refused at once, which spares the caller the wait and the provider the load. After a rest it is
half open: a few probes go through. If all succeed it closes, if one fails it opens again.
"""

from typing import Literal

from harness.pipeline.moments import RecentCount, wait_until
from harness.scenario.resilience import Breaker

State = Literal["closed", "open", "half_open"]
Event = Literal["too_many_failed", "rested", "probe_failed", "probes_succeeded"]

TABLE: dict[tuple[State, Event], State] = {
    ("closed", "too_many_failed"): "open",
    ("open", "rested"): "half_open",
    ("half_open", "probe_failed"): "open",
    ("half_open", "probes_succeeded"): "closed",
}


class BreakerState:
    """The breaker of one model.

    Every call that `begin` lets through must end in one of `succeeded`, `failed` and `abandoned`.
    What ends long after it began may tell of times before the breaker last changed its state, as
    do the calls that were under way when it opened: with the moment of its `begin` it is known
    and not counted. `now` never goes back.

    Attributes:
        state: `closed`, `open`, or `half_open`.
    """

    def __init__(self, settings: Breaker) -> None:
        self.state: State = "closed"
        self._set = settings
        self._begun = 0
        self._enter(float("-inf"))

    def may_call(self, now: float) -> bool:
        """Whether a call may be sent now."""
        return self.opens_again_s(now) == 0.0

    def opens_again_s(self, now: float) -> float:
        """Return the seconds until a probe may pass, 0 when a call may be sent now.

        When all probes are under way another may pass `open_s` after the last of them began, so
        that probes that hang do not keep the breaker half open for ever.
        """
        if self.state == "closed":
            return 0.0
        return wait_until(self._next_s, now)

    def begin(self, now: float) -> None:
        """A call is let through; one that asked before it opened, and is sent now, is no probe."""
        if self.state == "open" and self.may_call(now):
            self._on("rested", now)
        if self.state == "half_open":
            self._begun += 1
            if self._begun >= self._set.probes:
                self._next_s = now + self._set.open_s

    def succeeded(self, now: float, begun: float | None = None) -> None:
        """A call was answered; `begun` is when it was let through."""
        if self._tells(begun):
            self._good += 1
            if self.state == "closed":
                self._look(now)
            elif self.state == "half_open" and self._good >= self._set.probes:
                self._on("probes_succeeded", now)

    def failed(self, now: float, begun: float | None = None) -> None:
        """A call failed in a way that says something about the model."""
        if self._tells(begun):
            self._failures.add(now)
            if self.state == "closed":
                self._look(now)
            elif self.state == "half_open":
                self._on("probe_failed", now)

    def abandoned(self, now: float, begun: float | None = None) -> None:
        """A call was given up by its caller: it says nothing, and another may probe instead."""
        if self.state == "half_open" and self._tells(begun) and self._begun > self._good:
            self._begun -= 1
            if self._begun < self._set.probes:
                self._next_s = now

    def _look(self, now: float) -> None:
        """One more call has ended: open if too many of late have failed."""
        self._calls.add(now)
        calls = self._calls.total(now)
        share = self._failures.total(now) / calls
        if calls >= self._set.min_calls and share >= self._set.failure_share:
            self._on("too_many_failed", now)

    def _tells(self, begun: float | None) -> bool:
        return begun is None or begun >= self._since

    def _on(self, event: Event, now: float) -> None:
        self.state = TABLE[self.state, event]
        self._enter(now)

    def _enter(self, now: float) -> None:
        """Begin a state with nothing counted."""
        self._since = now
        self._next_s = now + self._set.open_s if self.state == "open" else now
        self._begun, self._good = 0, 0
        self._calls = RecentCount(self._set.window_s)
        self._failures = RecentCount(self._set.window_s)


class Breakers:
    """One breaker for each model."""

    def __init__(self, settings: Breaker) -> None:
        self._set = settings
        self._models: dict[str, BreakerState] = {}

    def of(self, model: str) -> BreakerState:
        """Return the model's own; there is one as soon as it is asked for."""
        if model not in self._models:
            self._models[model] = BreakerState(self._set)
        return self._models[model]

    def states(self) -> dict[str, State]:
        """Model -> state of its breaker, of those that were asked for."""
        return {model: breaker.state for model, breaker in self._models.items()}
