"""The breaker: its table, its way through it, and what it does not count."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from harness.pipeline.breaker import TABLE, Breakers, BreakerState, Event, State
from harness.scenario.resilience import Breaker

QUICK = Breaker(failure_share=0.5, min_calls=4, window_s=30.0, open_s=10.0, probes=2)


def opened(now: float = 0.0, settings: Breaker = QUICK) -> BreakerState:
    breaker = BreakerState(settings)
    for _ in range(settings.min_calls):
        breaker.begin(now)
        breaker.failed(now)
    assert breaker.state == "open"
    return breaker


def half_open(now: float = 10.0) -> BreakerState:
    breaker = opened(now - QUICK.open_s)
    breaker.begin(now)
    assert breaker.state == "half_open"
    return breaker


def test_the_table_is_whole() -> None:
    """Every event happens in one state, every state is left by some event, and reached by one."""
    assert sorted(event for _, event in TABLE) == sorted(get_args(Event))
    assert {state for state, _ in TABLE} == set(TABLE.values()) == set(get_args(State))


@given(
    outcomes=st.lists(st.tuples(st.floats(0, 4), st.booleans()), min_size=1, max_size=80),
    share=st.floats(0.05, 1),
    least=st.integers(1, 12),
)
def test_it_opens_as_soon_as_too_many_of_late_have_failed(
    outcomes: list[tuple[float, bool]], share: float, least: int
) -> None:
    """It is open from the first call on at which the window holds enough calls and failures."""
    breaker = BreakerState(Breaker(failure_share=share, min_calls=least, window_s=1e9))
    now, calls, failures = 0.0, 0, 0
    for pause_s, failed in outcomes:
        now += pause_s
        assert breaker.may_call(now)
        breaker.begin(now)
        (breaker.failed if failed else breaker.succeeded)(now)
        calls, failures = calls + 1, failures + failed
        due = calls >= least and failures / calls >= share
        assert breaker.state == ("open" if due else "closed")
        if due:
            return


def test_failures_of_long_ago_do_not_count() -> None:
    """Three failures and, a window later, three more are never four of late."""
    breaker = BreakerState(QUICK)
    for now in (0.0, 1.0, 2.0, 33.0, 34.0, 35.0):
        breaker.begin(now)
        breaker.failed(now)
    assert breaker.state == "closed"
    breaker.failed(36.0)
    assert not breaker.may_call(36.0)


@given(now=st.floats(0, 1e9), part=st.floats(0, 0.999))
def test_it_rests_for_just_as_long_as_it_says(now: float, part: float) -> None:
    """After the seconds it names a probe may pass, and at no time before."""
    breaker = opened(now)
    wait_s = breaker.opens_again_s(now)
    assert wait_s == pytest.approx(10.0)
    assert not breaker.may_call(now + wait_s * part)
    assert breaker.may_call(now + wait_s)
    assert breaker.state == "open"


def test_it_closes_when_all_probes_succeed() -> None:
    """Half open, two of two probes close it, and it starts with nothing counted."""
    breaker = half_open()
    assert breaker.may_call(10.0)
    breaker.begin(10.0)
    assert not breaker.may_call(10.0)
    breaker.succeeded(11.0)
    assert (breaker.state, breaker.may_call(11.0)) == ("half_open", False)
    breaker.succeeded(12.0)
    assert (breaker.state, breaker.may_call(12.0)) == ("closed", True)
    for _ in range(3):
        breaker.failed(12.0)
    assert breaker.state == "closed"


def test_one_failed_probe_opens_it_again() -> None:
    """It then rests anew, from the moment of the failure."""
    breaker = half_open()
    breaker.begin(10.0)
    breaker.succeeded(11.0)
    breaker.failed(12.0)
    assert (breaker.state, breaker.opens_again_s(13.0)) == ("open", 9.0)


def test_an_abandoned_probe_gives_its_place_back() -> None:
    """It counts for nothing, and another may probe at once."""
    breaker = half_open()
    breaker.begin(10.0)
    assert not breaker.may_call(11.0)
    breaker.abandoned(11.0)
    assert (breaker.state, breaker.may_call(11.0)) == ("half_open", True)
    breaker.begin(11.0)
    assert not breaker.may_call(11.0)


def test_a_place_that_nobody_holds_is_not_given_back() -> None:
    """When the only probe has succeeded, one who is given up was none, and frees no place."""
    breaker = half_open()
    breaker.succeeded(11.0)
    breaker.abandoned(11.0)
    breaker.begin(11.0)
    assert not breaker.may_call(11.0)


def test_an_abandoned_call_says_nothing() -> None:
    """However many are given up, a closed breaker has not seen a call."""
    breaker = BreakerState(QUICK)
    for _ in range(10):
        breaker.begin(0.0)
        breaker.abandoned(1.0)
    breaker.failed(1.0)
    assert breaker.state == "closed"


def test_probes_that_hang_do_not_keep_it_half_open() -> None:
    """When all probes are under way for `open_s` another may pass, and then one each `open_s`."""
    breaker = half_open()
    breaker.begin(12.0)
    assert breaker.opens_again_s(13.0) == 9.0
    assert breaker.may_call(22.0)
    breaker.begin(22.0)
    assert breaker.opens_again_s(22.0) == 10.0
    breaker.succeeded(23.0)
    breaker.succeeded(24.0)
    assert breaker.state == "closed"


def test_calls_from_before_it_opened_are_no_probes() -> None:
    """What began earlier and ends now neither opens nor closes it, nor gives a place back."""
    breaker = half_open()
    breaker.begin(10.0)
    for ends in (breaker.failed, breaker.succeeded, breaker.abandoned):
        ends(11.0, 5.0)
        ends(11.0, 5.0)
        assert (breaker.state, breaker.may_call(11.0)) == ("half_open", False)
    breaker.succeeded(12.0, 10.0)
    breaker.succeeded(12.0, 10.0)
    assert breaker.state == "closed"


def test_a_call_that_is_late_to_begin_ends_no_rest() -> None:
    """What begins while the breaker rests leaves it open, and so does its success."""
    breaker = opened(0.0)
    breaker.begin(4.0)
    breaker.succeeded(5.0, 4.0)
    assert (breaker.state, breaker.opens_again_s(5.0)) == ("open", 5.0)


def test_each_model_has_its_own() -> None:
    """A model that fails closes no other's door, and is the same at every question."""
    breakers = Breakers(Breaker(min_calls=1))
    breakers.of("a").begin(0.0)
    breakers.of("a").failed(0.0)
    assert [breakers.of(model).may_call(0.0) for model in "ab"] == [False, True]


class AnyCourse(RuleBasedStateMachine):
    """Calls that begin and end in any order, as long as the breaker lets them."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = BreakerState(QUICK)
        self.now = 0.0
        self.under_way: list[float] = []

    @rule(pause_s=st.floats(0, 20))
    def time_passes(self, pause_s: float) -> None:
        """Later."""
        self.now += pause_s

    @precondition(lambda self: self.breaker.may_call(self.now))
    @rule()
    def one_begins(self) -> None:
        """A call that may pass is let through, and an open breaker is then half open."""
        self.breaker.begin(self.now)
        self.under_way.append(self.now)
        assert self.breaker.state != "open"

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 99), how=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def one_ends(self, which: int, how: str) -> None:
        """One of them ends, in one of three ways, along a way of the table or none."""
        before = self.breaker.state
        begun = self.under_way.pop(which % len(self.under_way))
        getattr(self.breaker, how)(self.now, begun)
        ways = {after for (state, _), after in TABLE.items() if state == before}
        assert self.breaker.state in {before} | ways
        assert how != "abandoned" or self.breaker.state == before

    @invariant()
    def it_is_never_stuck(self) -> None:
        """There is always a moment, at most `open_s` away, at which a call may pass."""
        wait_s = self.breaker.opens_again_s(self.now)
        assert 0 <= wait_s <= QUICK.open_s + 1e-6
        assert self.breaker.may_call(self.now + wait_s)
        assert self.breaker.state != "closed" or wait_s == 0


TestAnyCourse = AnyCourse.TestCase
