"""What may hold an attempt back, or send it elsewhere: the policies of one processor, as one.

Each policy is pure and knows nothing of the others; here they are asked in turn. Where a setting is
off, nothing is asked and nothing is counted.
"""

from harness.pipeline.adaptive import adaptive_of
from harness.pipeline.breaker import Breakers, State
from harness.pipeline.gate import Gate
from harness.pipeline.hedge import Hedger
from harness.pipeline.request import Request
from harness.pipeline.retry_budget import RetryBudgetMeter
from harness.records import Record
from harness.scenario.pipeline import Pipeline

_REFUSED_FOR_LOAD = frozenset({429, 503, 529})
_REFUSED = frozenset({402, 429})
# What one model refuses and another may serve: a context too long, a moderation, no such model.
_THE_MODELS = frozenset({400, 403, 404})


class Guards:
    """Asked before an attempt, told after it.

    Attributes:
        gate: slots that adapt; None: they do not.
        hedger: decides about second calls; None: there are none.
    """

    def __init__(self, settings: Pipeline) -> None:
        budget, breaker, hedge = settings.retry_budget, settings.breaker, settings.hedge
        self.gate = Gate(adaptive_of(settings.adaptive)) if settings.adaptive else None
        self.hedger = Hedger(hedge) if hedge else None
        self._retries = RetryBudgetMeter(budget) if budget else None
        self._breakers = Breakers(breaker) if breaker else None
        self._fallbacks = settings.fallbacks

    @property
    def is_idle(self) -> bool:
        """Whether none of them is on: nothing is to be asked, and nothing told."""
        on = self.gate or self._retries or self._breakers or self._fallbacks
        return not on

    def candidates(self, request: Request) -> list[str]:
        """The models that may serve a request, the router's choice first."""
        return list(dict.fromkeys((request.item.route.model, *self._fallbacks)))

    def model(self, request: Request, tries: int, now: float) -> str | None:
        """The model for the next try; None when all breakers are open.

        Args:
            request: what is to be served.
            tries: how many there will have been with it, from 1: each goes to the next model.
            now: the moment.
        """
        if self._breakers is None and not self._fallbacks:
            return request.item.route.model
        names = self.candidates(request)
        for step in range(len(names)):
            name = names[(tries - 1 + step) % len(names)]
            if self._breakers is None or self._breakers.of(name).may_call(now):
                return name
        return None

    def opens_again_s(self, request: Request, now: float) -> float:
        """Seconds until a call to one of its models may be tried."""
        if self._breakers is None:
            return 0.0
        names = self.candidates(request)
        return min(self._breakers.of(name).opens_again_s(now) for name in names)

    def begin(self, model: str, now: float, *, first: bool) -> None:
        """A call is let through."""
        if self._breakers is not None:
            self._breakers.of(model).begin(now)
        if first and self._retries is not None:
            self._retries.deposit(now)

    def end(self, row: Record, begun: float, now: float) -> None:
        """A call has ended."""
        if self._breakers is None:
            return
        breaker = self._breakers.of(row.model)
        if row.outcome == "ok":
            breaker.succeeded(now, begun)
        elif row.error in {"deadline", "hedge_lost"} or row.status in _REFUSED:
            breaker.abandoned(now, begun)  # says nothing about the model's health
        elif row.status is not None and 400 <= row.status < 500 and row.status != 408:
            breaker.succeeded(now, begun)  # it lives, and is right to refuse
        else:
            breaker.failed(now, begun)

    def given_up(self, model: str, begun: float, now: float) -> None:
        """A call was cancelled by us."""
        if self._breakers is not None:
            self._breakers.of(model).abandoned(now, begun)

    def may_retry(self, now: float) -> bool:
        """Whether there is room for one more retry; if so it is counted."""
        return self._retries is None or self._retries.withdraw(now)

    def retries_left(self, now: float) -> float | None:
        """How many retries there is room for; None: as many as one likes."""
        return None if self._retries is None else self._retries.left(now)

    def has_other(self, request: Request, tries: int) -> bool:
        """Whether a model is left that this request has not tried."""
        return bool(self._fallbacks) and tries < len(self.candidates(request))

    def may_fall_back(self, request: Request, row: Record, tries: int) -> bool:
        """Whether what this model refuses for good may be served by the next."""
        return row.status in _THE_MODELS and self.has_other(request, tries)

    def states(self) -> dict[str, State]:
        """Model -> state of its breaker."""
        return {} if self._breakers is None else self._breakers.states()


def was_dropped(row: Record) -> bool:
    """Whether a call says that there were too many at once."""
    return row.outcome == "timed_out" or row.status in _REFUSED_FOR_LOAD
