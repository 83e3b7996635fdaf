"""Slots that adapt: the rules step by step, and what they are worth in a pure world."""

import pytest
from adaptive_world import Fixed, Seen, World
from hypothesis import given
from hypothesis import strategies as st

from harness.pipeline.adaptive import AdaptiveLimit, AimdLimit, Gradient2Limit, adaptive_of
from harness.scenario.resilience import Aimd, Gradient2
from mock_llm.config import Capacity

samples = st.lists(
    st.tuples(st.floats(0, 9), st.floats(0, 100), st.integers(1, 300), st.booleans()), max_size=200
)


@given(calls=samples, lowest=st.integers(1, 30), more=st.integers(0, 50))
def test_a_limit_stays_within_its_bounds(
    calls: list[tuple[float, float, int, bool]], lowest: int, more: int
) -> None:
    """Whatever is seen, the slots are never fewer than the lowest or more than the highest."""
    for kind in (Aimd, Gradient2):
        limit = adaptive_of(kind(initial=20, lowest=lowest, highest=lowest + more))
        now = 0.0
        for pause_s, latency_s, in_flight, dropped in calls:
            now += pause_s
            assert lowest <= limit.limit <= lowest + more
            limit.sample(now, latency_s, in_flight, dropped)
        assert lowest <= limit.limit <= lowest + more


def test_a_window_of_good_answers_adds_a_slot() -> None:
    """With n slots in use, about n good answers make them n + 1."""
    limit = AimdLimit(Aimd(initial=10))
    for number in range(11):
        assert limit.limit == 10
        limit.sample(float(number), 1.0, 10, dropped=False)
    assert limit.limit == 11


def test_unused_slots_do_not_grow() -> None:
    """With less than half of the slots in use, good answers say nothing about more."""
    for limit in (adaptive_of(Aimd(initial=10)), adaptive_of(Gradient2(initial=20))):
        before = limit.limit
        for number in range(100):
            limit.sample(float(number), 1.0, 4, dropped=False)
        assert limit.limit == before


def test_one_overload_cuts_once() -> None:
    """Calls that were sent before the last cut cut no more; one that was sent after it does."""
    limit = AimdLimit(Aimd(initial=100))
    for number in range(10):
        limit.sample(10 + number / 100, 5.0, 100, dropped=True)
    assert limit.limit == 90
    limit.sample(16.0, 5.0, 90, dropped=True)
    assert limit.limit == 81


def window(limit: AdaptiveLimit, now: float, latency_s: float, *, dropped: bool = False) -> None:
    for number in range(10):
        limit.sample(now + number / 10, latency_s, limit.limit, dropped and number == 0)


def test_the_gradient_by_hand() -> None:
    """A steady latency adds smoothing * 4; twice the tolerance takes half of smoothing as well."""
    limit = Gradient2Limit(Gradient2(initial=100, long_window=1_000_000))
    for second in range(10):
        window(limit, 2.0 * second, 1.0)
    assert limit.limit == int(100 + 10 * 0.2 * 4)
    window(limit, 30.0, 3.0)
    assert limit.limit == int(0.8 * 108 + 0.2 * (108 * 0.5 + 4))


def test_a_refusal_is_no_quick_answer() -> None:
    """A window with a refusal halves the gradient and leaves the long-term latency as it was."""
    limit = Gradient2Limit(Gradient2(initial=100))
    window(limit, 0.0, 1.0)
    window(limit, 2.0, 0.001, dropped=True)
    assert limit.limit == int(0.8 * 100.8 + 0.2 * (100.8 * 0.5 + 4))
    window(limit, 4.0, 1.4)
    assert limit.limit == int(91.52 + 0.8)


def test_a_latency_that_comes_down_is_forgotten_sooner() -> None:
    """After a slow spell the long-term latency falls by 5 % more a window than it would."""
    limit = Gradient2Limit(Gradient2(long_window=1_000_000))
    for second in range(10):
        window(limit, 2.0 * second, 10.0)
    for second in range(10, 30):
        window(limit, 2.0 * second, 1.0)
    assert limit._long_s == pytest.approx(10 * 0.95**20, rel=0.01)


def seen(kind: AdaptiveLimit, capacity: Capacity, per_min: int | None = None) -> Seen:
    return World(kind, capacity, per_min).run(600, 180)


def adaptive() -> list[AdaptiveLimit]:
    return [AimdLimit(Aimd()), Gradient2Limit(Gradient2())]


def test_both_find_a_provider_without_end() -> None:
    """Where nothing holds them back both go to the highest, eight times and more the first 20."""
    first = seen(Fixed(20), Capacity())
    for limit in adaptive():
        found = seen(limit, Capacity())
        assert limit.limit == 200
        assert found.ok_per_s > 8 * first.ok_per_s
        assert found.mean_s == pytest.approx(first.mean_s, rel=0.02)


def test_a_provider_that_refuses_is_met_at_its_size_by_both() -> None:
    """Of 40 slots without a queue both use 95 %, where 200 fixed slots have 9 of 10 refused."""
    capacity = Capacity(slots=40, queue=0)
    best = seen(Fixed(40), capacity)
    assert seen(Fixed(200), capacity).refused > 0.85
    aimd, gradient = (seen(limit, capacity) for limit in adaptive())
    for found in (aimd, gradient):
        assert found.ok_per_s > 0.95 * best.ok_per_s
        assert 38 <= found.slots <= 40
    assert aimd.refused < gradient.refused < 0.02


def test_under_a_throttle_aimd_is_refused_less() -> None:
    """At 600 calls a minute all get through as many; AIMD has half of Gradient2's refusals."""
    fixed, aimd, gradient = (seen(one, Capacity(), 600) for one in [Fixed(20), *adaptive()])
    for found in (fixed, aimd, gradient):
        assert found.ok_per_s == pytest.approx(10, rel=0.03)
    assert aimd.refused < 0.6 * gradient.refused < 0.4 * fixed.refused


@pytest.mark.parametrize("capacity", [Capacity(slots=40), Capacity(full_speed=40)])
def test_where_calls_wait_in_silence_gradient_waits_less(capacity: Capacity) -> None:
    """Both fill a provider that queues or slows down; the right number of slots beats them."""
    best, aimd, gradient = (seen(one, capacity) for one in [Fixed(40), *adaptive()])
    for found in (aimd, gradient):
        assert found.ok_per_s == pytest.approx(best.ok_per_s, rel=0.01)
        assert found.mean_s > 2 * best.mean_s
    assert gradient.mean_s < 0.85 * aimd.mean_s


def test_where_load_does_harm_gradient_does_less() -> None:
    """A provider that thrashes over 20 calls gives both less than 20 slots get, AIMD the least."""
    capacity = Capacity(full_speed=20, exponent=1.5)
    best, aimd, gradient = (seen(one, capacity) for one in [Fixed(20), *adaptive()])
    assert aimd.ok_per_s < gradient.ok_per_s < best.ok_per_s
    assert gradient.mean_s < aimd.mean_s
