"""One attempt between client and provider: the provider's plan, played to the client's ear.

Theory of operation. An attempt travels, is admitted, and is then played. What most attempts are, a
whole answer, a refusal or silence, is played by two moments: no byte is made of it, and what the
client reads is what the plan says. All else (streams that are watched, spoiled answers, broken
connections) is played by the mock's own `Performance`, byte for byte, to the client's own parsers.

A client that leaves is not noticed by a provider that works on; see `handler_cancellation`.
"""

from functools import lru_cache
from math import inf

from harness.engines.twin.clock import Alarm, Event
from harness.engines.twin.ear import Ear
from harness.engines.twin.endpoint import Endpoint
from harness.pipeline.answer import Answer, BadAnswerError, told
from harness.pipeline.client import CallError
from harness.pipeline.hints import metadata, passing, retry_after_s
from harness.pipeline.reading import Stamps
from mock_llm import envelope
from mock_llm.capacity import occupies, overloaded
from mock_llm.faults.base import unsaid
from mock_llm.ledger import End, Row, billed
from mock_llm.performance import SILENT, Performance
from mock_llm.plan import Call, Plan
from mock_llm.service import Seat, Service
from mock_llm.timeline import timeline

EPOCH_S = 1_793_491_200.0  # as the mock's; only ids and dates are made of it


class Exchange(Event):
    """One attempt: it comes with the answer, or with why there is none.

    Args:
        end: the provider.
        now: the moment.
        call: what is asked.
        stamps: get the times.

    Attributes:
        left_s: when the client went away; None while it listens.
    """

    def __init__(self, end: Endpoint, now: float, call: Call, stamps: Stamps) -> None:
        self._end, self.call, self._stamps = end, call, stamps
        self.env, self.callbacks = end.clock, []
        self.left_s: float | None = None
        self._head_s = self._origin_s = inf
        self._plan: Plan | None = None
        self._seat: Seat | None = None
        self._silent = self._closed = False
        self._sound: bool | None = None
        self._performance: Performance | None = None
        self._ear: Ear | None = None
        self._row: Row | None = None
        arrival_s = now + end.provider.transit_s(call.key)
        self._alarm: Alarm | None = end.clock.call_at(arrival_s, self._arrive)

    def _arrive(self) -> None:
        """Be admitted, and take a place if one is needed."""
        end, now = self._end, self._end.clock.now_s
        plan = self._plan = end.provider.admit(self.call, now)
        self._origin_s = now
        if end.slots is None or not occupies(plan):
            self._play(plan, None, now)
        elif plan.setup_s:
            self._alarm = end.clock.call_at(now + plan.setup_s, self._knock, plan, end.slots)
        else:
            self._knock(plan, end.slots)

    def _knock(self, plan: Plan, slots: Service) -> None:
        now = self._end.clock.now_s
        seat = slots.take(now)
        if seat is None:
            plan = self._plan = overloaded(plan, slots.station.capacity.overflow_status)
        self._head_s = now
        self._play(plan, seat, now)

    def _play(self, plan: Plan, seat: Seat | None, now: float) -> None:
        self._seat = seat
        whole = plan.ending == "clean" and not plan.forms
        if not self._end.is_plain or not (whole or plan.status != 200 or plan.ending == "hang"):
            self._perform(plan, seat)
        elif seat is not None:
            keep_alive_s = self._end.keep_alive_s
            opens_s = inf if keep_alive_s is None else self._origin_s + keep_alive_s
            self._head_s = max(opens_s, self._head_s) if whole else inf
            seat.wake = self._rung
            self._rung(now)
        elif plan.ending == "hang":
            self._fall_silent()
        else:
            self._await(plan, now)

    def _await(self, plan: Plan, now: float) -> None:
        """Have a plain answer told when it is due."""
        origin_s, setup_s, keep_alive_s = self._origin_s, plan.setup_s, self._end.keep_alive_s
        refused = plan.status != 200
        end_s = (plan.first_token_s if refused else plan.last_token_s) + setup_s
        if not refused:
            if self.call.stream:
                self._head_s = origin_s + setup_s
            elif keep_alive_s is not None and end_s > keep_alive_s:
                self._head_s = origin_s + keep_alive_s
        due_s = origin_s + end_s
        if due_s <= now:
            self._tell()
        else:
            self._alarm = self._end.clock.call_at(due_s, self._tell)

    def _rung(self, now: float) -> None:
        """Go on with what a slot is needed for: tell when it is done, not before."""
        plan, seat = self._plan, self._seat
        assert plan is not None  # noqa: S101 - it was admitted
        assert seat is not None  # noqa: S101 - it is its seat that rings
        if seat.when(plan.last_token_s) > now:
            seat.ring_at(plan.last_token_s)
        elif plan.ending == "hang":
            self._alarm = self._end.clock.call_at(now, self._fall_silent)
        elif self.left_s is None:
            if not self.triggered:  # else the client's time is up at this very moment
                self._told(self._said(now), True)
            self._alarm = self._end.clock.call_at(now, self._over, "complete")
        else:
            self._alarm = self._end.clock.call_at(now, self._over, "client_left")

    def _fall_silent(self) -> None:
        """Nothing more will come; it is over when the client leaves."""
        if self._seat is not None:
            self._seat.leave(self._end.clock.now_s)
        self._silent = True
        if self.left_s is not None:
            self._over("client_left")

    def _tell(self) -> None:
        if self.left_s is not None:
            self._over("client_left")
            return
        found = self._said(self._end.clock.now_s)
        self._closed = self._sound = True
        self._over("complete")
        # It comes at once, not in its turn, for this is an alarm's last act.
        self._ok, self._value = True, found
        callbacks, self.callbacks = self.callbacks, None  # type: ignore[assignment]
        for callback in callbacks:
            callback(self)

    def _said(self, now: float) -> Answer | CallError:
        """What the client reads now in a plain answer, or in a refusal."""
        plan, stamps = self._plan, self._stamps
        assert plan is not None  # noqa: S101 - it was admitted
        found: Answer | CallError
        stamps.status = plan.status
        head_s = self._head_s
        stamps.t_headers = head_s if head_s < now else now  # noqa: FURB136 - min takes twice as long
        stamps.t_first_token = now
        if plan.status != 200:
            stamps.t_last_token = now
            found = _refused(self.call, plan, int(EPOCH_S + self._origin_s))
        else:
            if self.call.stream:
                stamps.t_first_token = self._first_token_s(plan)
            try:
                found = told(
                    plan.reply,
                    plan.finish_reason or None,
                    plan.prompt_tokens,
                    plan.completion_tokens,
                    plan.cached_tokens,
                    plan.cost_usd,
                )
                stamps.t_last_token = now
            except BadAnswerError as error:
                found = CallError(error.word, plan.status)
        return found

    def _first_token_s(self, plan: Plan) -> float:
        return self._origin_s + (plan.first_token_s + plan.setup_s)

    def _told(self, found: Answer | CallError, sound: bool) -> None:
        self._closed, self._sound = True, sound
        if not sound:
            self._leave_provider()
        self.succeed(found)

    def let_go(self) -> None:
        """The client has read the end: it may use the connection again before others can."""
        if self._sound is not None:
            self._end.pool.give_back(sound=self._sound)
            self._sound = None

    def leave(self) -> None:
        """The client goes away, and its connection is closed."""
        if self._closed:
            self.let_go()
            return
        self._closed = True
        now, stamps, plan = self._end.clock.now_s, self._stamps, self._plan
        self._end.pool.give_back(sound=False)
        if self._ear is not None:
            self._ear.leave()
        elif self._head_s <= now and plan is not None and plan.status == 200:
            stamps.status, stamps.t_headers = 200, self._head_s
            if self.call.stream and (first_s := self._first_token_s(plan)) <= now:
                stamps.t_first_token = first_s
        self._leave_provider()

    def _leave_provider(self) -> None:
        """What it makes of a client that is gone."""
        if self.left_s is not None:
            return
        self.left_s = self._end.clock.now_s
        if self._silent:
            self._over("client_left")
        elif self._end.upstream.handler_cancellation:
            if self._alarm is not None:
                self._alarm.cancel()
            if self._performance is not None:
                self._performance.stop()
            if self._plan is not None:
                self._over("client_left")

    def _over(self, ended: End) -> None:
        """The provider has done with it."""
        plan, seat = self._plan, self._seat
        if plan is None:
            return
        self._plan = None
        if seat is not None:
            if seat.began_s is None:
                plan = unsaid(plan)
            seat.leave(self._end.clock.now_s)
        if plan.ticket:
            self._settle(plan, ended)

    def _settle(self, plan: Plan, ended: End) -> None:
        """Give back what it held of limits and credits."""
        model, end = self.call.model, self._end
        tokens, usd = billed(
            plan,
            ended,
            stream=self.call.stream,
            delivered_tokens=0 if self._row is None else self._row.completion_tokens,
            completion_usd=end.completion_usd(plan, model),
            abort_billing="full" if end.bills_in_full(model) else "sent",
        )
        end.provider.finish(plan, tokens, usd)

    # What is played byte for byte.

    def _perform(self, plan: Plan, seat: Seat | None) -> None:
        end, call = self._end, self.call
        self._head_s = inf
        self._row = Row(arrived_s=self._origin_s, admitted_s=self._origin_s)
        self._ear = Ear(end.settings, end.clock, self._stamps, self._told)
        script = timeline(
            call,
            plan,
            int(EPOCH_S + self._origin_s),
            keep_alive_s=end.keep_alive_s,
            completion_usd=end.completion_usd(plan, call.model) if plan.status == 200 else 0.0,
            frame=end.frame,
            elastic=seat is not None,
            style=end.styled(plan),
        )
        performance = Performance(self, self._row, plan, script, seat, end.clock)
        self._performance = performance
        if performance.begin():
            self._played()
        else:
            performance.go_on(self)

    def send(self, data: bytes) -> bool:
        """Bytes on their way to the client."""
        if self.left_s is not None or self._ear is None:
            return False
        self._ear.hear(data)
        return True

    def done(self) -> bool:
        """Whether the performance is of no interest any more."""
        return self._plan is None

    def set_result(self, _: None) -> None:
        """The performance has come to its end."""
        self._alarm = self._end.clock.call_at(self._end.clock.now_s, self._played)

    def set_exception(self, exception: Exception) -> None:
        """The performance broke off by a fault of our own."""
        raise exception

    def _played(self) -> None:
        plan, performance, ear = self._plan, self._performance, self._ear
        if plan is None or performance is None or ear is None:
            return
        if plan.ending in SILENT:
            self._fall_silent()
        elif not performance.sent:
            self._over("client_left")
        else:
            if plan.ending in {"eof", "reset"}:
                ear.hang_up()
            ended: End = "complete" if plan.ending == "clean" else "broken"
            self._over("refused" if plan.ending == "refused" else ended)


def _refused(call: Call, plan: Plan, created: int) -> CallError:
    """What the client reads in a refusal."""
    word = f"http_{plan.status}"
    if "html" in plan.forms:
        return CallError(word, plan.status)
    said = envelope.planned(call, plan, created)
    found = metadata(said.body)
    hint = retry_after_s(_fields(said.fields), found)
    return CallError(word, plan.status, hint, passing(plan.status, found))


@lru_cache(maxsize=256)
def _fields(fields: bytes) -> dict[str, str]:
    lines = fields.decode().splitlines()
    return {name: value for name, _, value in (line.partition(": ") for line in lines)}
