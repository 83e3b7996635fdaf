"""Finite capacity without a clock: who is served, how fast, and how far they have come."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_llm.capacity import Station, occupies, overloaded
from mock_llm.config import Capacity, Upstream
from mock_llm.distributions import Exponential, quantile_function
from mock_llm.loader import convert
from mock_llm.plan import Plan
from mock_llm.rng import Keyed
from mock_llm.strict import FieldError
from mock_llm.work_clock import WorkClock

counts = st.none() | st.integers(1, 4)


@given(
    slots=counts,
    queue=st.none() | st.integers(0, 3),
    steps=st.lists(st.none() | st.integers(0, 9), max_size=60),
)
def test_nobody_is_lost_and_the_first_is_first(
    slots: int | None, queue: int | None, steps: list[int | None]
) -> None:
    """Whoever comes is served, waits or is sent away; a free slot is the first waiter's at once."""
    capacity = Capacity(slots=slots, queue=None if slots is None else queue)
    station: Station[int] = Station(capacity)
    served, waiting, begun = list[int](), list[int](), list[int]()
    for ticket, step in enumerate(steps):
        here = served + waiting
        if step is None or not here:
            place = station.enter(ticket, float(ticket))
            room = slots is None or len(served) < slots
            full = not room and capacity.queue is not None and len(waiting) >= capacity.queue
            assert place == ("serving" if room else "full" if full else "waiting")
            served += [ticket] if place == "serving" else []
            waiting += [ticket] if place == "waiting" else []
        else:
            gone = here[step % len(here)]
            began = station.leave(gone, float(ticket))
            expected = waiting[:1] if gone in served and waiting else []
            assert began == expected
            served = [one for one in served if one != gone] + began
            waiting = [one for one in waiting if one != gone and one not in began]
            begun += began
        assert (station.serving, station.waiting) == (len(served), len(waiting))
        assert slots is None or len(served) <= slots
        assert not (waiting and len(served) != slots)
    assert begun == sorted(begun)


@given(st.lists(st.tuples(st.floats(0.01, 9), st.booleans()), max_size=30))
def test_busy_time_is_that_of_all_who_were_served(steps: list[tuple[float, bool]]) -> None:
    """Slot seconds used are the sum of the times between beginning and leaving."""
    station: Station[float] = Station(Capacity(slots=3))
    now, spent, began = 0.0, 0.0, dict[float, float]()
    for pause_s, comes in steps:
        now += pause_s
        if comes or not began:
            if station.enter(now, now) == "serving":
                began[now] = now
        else:
            first = next(iter(began))
            spent += now - began.pop(first)
            began |= dict.fromkeys(station.leave(first, now), now)
    spent += sum(now - since for since in began.values())
    assert station.busy_s(now) == pytest.approx(spent)


@pytest.mark.parametrize(
    ("capacity", "rates"),
    [
        (Capacity(), [1, 1, 1, 1, 1]),
        (Capacity(full_speed=2), [1, 1, 2 / 3, 1 / 2, 2 / 5]),
        (Capacity(full_speed=1, exponent=0.5), [1, 2**-0.5, 3**-0.5, 1 / 2, 5**-0.5]),
        (Capacity(full_speed=2, exponent=0), [1, 1, 1, 1, 1]),
        (Capacity(slots=3, full_speed=1), [1, 1 / 2, 1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_speed_is_shared_by_those_in_service(capacity: Capacity, rates: list[float]) -> None:
    """Up to `full_speed` everyone has full speed, beyond it all have the same share of it."""
    station: Station[int] = Station(capacity)
    seen = []
    for ticket in range(5):
        station.enter(ticket, 0.0)
        seen.append(station.rate)
    assert seen == pytest.approx(rates)


def test_more_slots_are_taken_at_once_and_fewer_as_they_come_free() -> None:
    """A change lets waiters in, or lets those who are served finish; nobody is sent away."""
    station: Station[str] = Station(Capacity(slots=1))
    for ticket in "abcde":
        station.enter(ticket, 0.0)
    assert station.change(Capacity(slots=3), 1.0) == ["b", "c"]
    assert station.change(Capacity(slots=2), 2.0) == []
    assert station.leave("a", 3.0) == []
    assert station.leave("c", 4.0) == ["d"]
    assert station.change(Capacity(), 5.0) == ["e"]
    with pytest.raises(KeyError):
        station.leave("a", 6.0)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0.01, 1)), min_size=1, max_size=30),
    st.floats(0, 100),
)
def test_work_is_the_integral_of_the_rate(steps: list[tuple[float, float]], rest_s: float) -> None:
    """Work adds up over all rates there were, and `when` is its inverse at the present one."""
    clock, now, done, rate = WorkClock(), 0.0, 0.0, 1.0
    for pause_s, next_rate in steps:
        now += pause_s
        done += pause_s * rate
        clock.set_rate(next_rate, now)
        rate = next_rate
        assert clock.work(now) == pytest.approx(done)
    assert clock.work(now + rest_s) == pytest.approx(done + rest_s * rate)
    assert clock.when(clock.work(now) + rest_s * rate) == pytest.approx(now + rest_s)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_at_full_speed_work_is_time_to_the_digit(now: float, work_s: float) -> None:
    """A clock whose rate is never other than 1 adds no rounding, so that no byte moves."""
    clock = WorkClock()
    clock.set_rate(1.0, now / 2)
    assert clock.work(now) == now
    assert clock.when(now + work_s) == now + work_s


def test_what_is_done_stays_done_when_a_timer_fires_early() -> None:
    """A moment a little before the last change of the rate counts as that change's."""
    clock = WorkClock()
    clock.set_rate(0.5, 10.0)
    clock.set_rate(0.25, 9.9995)
    assert (clock.work(10.0), clock.when(11.0)) == (10.0, 14.0)


def sojourn_s(load: float, jobs: int, capacity: Capacity) -> float:
    """Mean time at a station with Poisson arrivals and exponential work of 1 s, event by event."""
    station, clock = Station[int](capacity), WorkClock()
    gap, work = (Keyed(5).stream(name) for name in ("gap", "work"))
    gap_s = quantile_function(Exponential(mean=1 / load))
    work_s = quantile_function(Exponential(mean=1.0))
    arrivals, left, ends = dict[int, float](), 0, dict[int, float]()
    number, next_s, spent = 0, 0.0, 0.0
    while left < jobs:
        first = min(ends, key=ends.__getitem__, default=None)
        due_s = math.inf if first is None else clock.when(ends[first])
        if next_s <= due_s:
            now = next_s
            arrivals[number] = now
            begun = [number] if station.enter(number, now) == "serving" else []
            next_s += gap_s(gap("g", number))
            number += 1
        else:
            assert first is not None
            now = due_s
            spent += now - arrivals.pop(first)
            del ends[first]
            begun = station.leave(first, now)
            left += 1
        clock.set_rate(station.rate, now)
        for one in begun:
            ends[one] = clock.work(now) + work_s(work("w", one))
    return spent / jobs


@pytest.mark.parametrize(
    ("capacity", "load", "expected"),
    [
        # M/M/1-PS: 1 / (mu - lambda), Kleinrock, Queueing Systems II, 4.4.
        (Capacity(full_speed=1), 0.5, 2.0),
        (Capacity(full_speed=1), 0.7, 1 / 0.3),
        # M/M/1 first come, first served has the same mean.
        (Capacity(slots=1), 0.5, 2.0),
        # M/M/2, Erlang C: C / (2 mu - lambda) + 1 / mu with C = 1/3 at a load of 1.
        (Capacity(slots=2), 1.0, 1 / 3 + 1),
    ],
)
def test_mean_times_are_those_of_queueing_theory(
    capacity: Capacity, load: float, expected: float
) -> None:
    """Station and clock, driven by random arrivals, agree with the closed forms within 5 %."""
    assert sojourn_s(load, 20_000, capacity) == pytest.approx(expected, rel=0.05)


def test_who_needs_a_slot() -> None:
    """Answers do, also those that get lost; refusals, resets and Cloudflare's pages do not."""
    plans = [
        *(Plan(), Plan(ending="hang"), Plan(ending="reset", reach="part")),
        *(Plan(status=503), Plan(ending="reset", reach="nothing"), Plan(forms=("html",))),
    ]
    assert [occupies(plan) for plan in plans] == [True, True, True, False, False, False]


def test_overloaded_is_a_refusal_for_nothing() -> None:
    """It comes at once, keeps the draw and the set-up, and costs nothing."""
    plan = Plan(setup_s=0.2, first_token_s=3.0, reply="x", completion_tokens=1, cost_usd=1, draw=2)
    refusal = overloaded(plan, 529)
    assert (refusal.status, refusal.error) == (529, "provider_overloaded")
    assert (refusal.setup_s, refusal.first_token_s, refusal.draw) == (0.2, 0.0, 2)
    assert (refusal.cost_usd, refusal.completion_tokens) == (0.0, 0)


def test_capacity_is_read_from_a_scenario() -> None:
    """A table of limits; a queue before no slots is the user's mistake."""
    table = {"capacity": {"slots": 5, "queue": "none", "full_speed": 2, "exponent": 1.5}}
    upstream = convert(table, Upstream, "")
    assert upstream.capacity == Capacity(slots=5, full_speed=2, exponent=1.5)
    assert Upstream().capacity is None
    for key, value in (("queue", 5), ("order", "lifo")):
        with pytest.raises(FieldError, match=f"`{key}` needs `slots`"):
            convert({"capacity": {key: value}}, Upstream, "")


def test_the_first_comes_before_the_second() -> None:
    """Tickets that wait begin in the order in which they came."""
    station: Station[str] = Station(Capacity(slots=1))
    for ticket in "dcba":
        station.enter(ticket, 0.0)
    order = [station.leave(one, 1.0) for one in "dcb"]
    assert all(a != b for a, b in pairwise(order))
    assert order == [["c"], ["b"], ["a"]]


def test_the_last_may_come_first() -> None:
    """With `lifo` the newest who waits begins next, whoever left the queue in between."""
    station: Station[str] = Station(Capacity(slots=1, order="lifo"))
    for ticket in "abcdef":
        station.enter(ticket, 0.0)
    assert station.leave("a", 1.0) == ["f"]
    assert station.leave("e", 1.0) == []
    assert station.leave("f", 2.0) == ["d"]
    assert station.change(Capacity(slots=2, order="lifo"), 3.0) == ["c"]
    station.enter("g", 3.0)
    assert station.change(Capacity(slots=2), 4.0) == []
    assert station.leave("d", 5.0) == ["b"]


def test_the_order_of_service_does_not_change_the_mean() -> None:
    """Last come, first served: the mean time at an M/M/1 is as before (Kleinrock)."""
    assert sojourn_s(0.5, 20_000, Capacity(slots=1, order="lifo")) == pytest.approx(2.0, rel=0.05)
