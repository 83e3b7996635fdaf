"""The service's queue: who is next, who is refused, and that what it says of time is true."""

from math import log1p, sqrt
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.pipeline.waiting import LUCK, NEWEST, UNKNOWN_S, Refusal, WaitingRoom
from harness.scenario.resilience import Queue


def room(
    workers: int = 50,
    mean_s: float = 1.19,
    queue: Queue = Queue(),  # noqa: B008
) -> WaitingRoom[int]:
    """A room that has seen what a service takes; 0 s: it has not."""
    found = WaitingRoom[int](queue, workers)
    if mean_s:
        found.served(mean_s)
    return found


def fill(waiting: WaitingRoom[int], now: float, budget_s: float | None) -> int:
    """Offer interactive tickets until one is refused; return how many were not."""
    number = waiting.depth
    deadline = None if budget_s is None else now + budget_s
    while waiting.offer(number, now, deadline=deadline, interactive=True) is None:
        number += 1
    return number


def test_the_useful_depth_of_fifty_workers() -> None:
    """At 1.19 s and 30 s to live 1,210 may be ahead, of the 10,000 that would find room."""
    waiting = room()
    assert waiting.useful_depth(30.0) == 1_210
    assert fill(waiting, 5.0, 30.0) == 1_211
    assert waiting.wait_s(5.0) + 1.19 == pytest.approx(30.0, abs=0.02)
    refusal = waiting.offer(-1, 5.0, deadline=35.0, interactive=True)
    assert refusal == Refusal("too_late", 1.19 / 50)
    assert waiting.offer(-1, 5.0, deadline=35.5, interactive=True) is None


def test_a_length_alone_is_the_trap() -> None:
    """With the rule off, or without deadlines, 10,000 wait, the last for 238 s."""
    for queue, budget_s in ((Queue(useful_only=False), 30.0), (Queue(), None)):
        waiting = room(queue=queue)
        assert fill(waiting, 0.0, budget_s) == 10_000
        assert waiting.wait_s(0.0) == pytest.approx(238.0)
        refusal = waiting.offer(-1, 0.0, deadline=None, interactive=True)
        assert refusal == Refusal("full", 1.19 / 50)


def test_before_any_answer_nobody_is_too_late() -> None:
    """Without an estimate only a full room refuses, and names a second."""
    waiting = room(mean_s=0, queue=Queue(size=3))
    assert fill(waiting, 0.0, 0.5) == 3
    assert waiting.offer(9, 0.0, deadline=0.5, interactive=True) == Refusal("full", UNKNOWN_S)


def test_who_would_be_next_is_never_too_late() -> None:
    """After a slow spell a room without waiters takes one in, and so can learn that it is over."""
    waiting = room(workers=1, mean_s=60.0)
    assert waiting.offer(1, 0.0, deadline=30.0, interactive=True) is None
    assert waiting.offer(2, 0.0, deadline=30.0, interactive=True) == Refusal("too_late", 60.0)
    assert waiting.take(0.0) == 1
    for _ in range(400):
        waiting.served(1.0)
    assert waiting.mean_s == pytest.approx(1.0, abs=0.05)
    assert waiting.useful_depth(30.0) > 20


@given(
    depth=st.integers(1, 60),
    batch=st.integers(0, 20),
    budget_s=st.floats(0.01, 30),
    mean_s=st.floats(0.05, 5),
    workers=st.integers(1, 9),
    size=st.integers(1, 60),
    interactive=st.booleans(),
)
def test_a_refusals_retry_after_is_true(
    depth: int,
    batch: int,
    budget_s: float,
    mean_s: float,
    workers: int,
    size: int,
    interactive: bool,
) -> None:
    """When workers are as quick as on average, the same request is let in then, and not before."""
    waiting = room(workers, mean_s, Queue(size=size))
    for number in range(depth):
        waiting.offer(number, 0.0, deadline=None, interactive=True)
    for number in range(depth, depth + batch):
        waiting.offer(number, 0.0, deadline=None, interactive=False)

    def refused(now: float) -> Refusal | None:
        deadline = now + budget_s
        found = waiting.offer(-1, now, deadline=deadline, interactive=interactive)
        waiting.remove(-1)
        return found

    first = refused(0.0)
    one_s = mean_s / workers
    departures = 0 if first is None else round(first.retry_after_s / one_s)
    for number in range(departures):
        now = number * one_s
        left = refused(now)
        assert left is not None
        assert left.retry_after_s == pytest.approx((departures - number) * one_s)
        waiting.take(now)
    assert refused(departures * one_s) is None


def test_interactive_requests_go_first_and_see_only_each_other() -> None:
    """A thousand batch items make no interactive request wait, and are themselves in order."""
    waiting = room(workers=1, mean_s=1.0)
    for number in range(1_000):
        assert waiting.offer(number, 0.0, deadline=None, interactive=False) is None
    assert waiting.wait_s(0.0) == 0.0
    assert waiting.wait_s(0.0, interactive=False) == 1_000.0
    assert waiting.offer(1_000, 0.0, deadline=2.0, interactive=True) is None
    assert waiting.offer(1_001, 0.0, deadline=2.0, interactive=True) is None
    assert waiting.offer(1_002, 0.0, deadline=2.0, interactive=True) is not None
    late = waiting.offer(1_003, 0.0, deadline=500.0, interactive=False)
    assert late == Refusal("too_late", 1_002 - 499)
    assert [waiting.take(0.0) for _ in range(4)] == [1_000, 1_001, 0, 1]


def test_the_newest_goes_first_as_long_as_the_oldest_is_late() -> None:
    """Adaptive LIFO: in order up to `late_s`, beyond it from the end, for as long as that lasts."""
    queue = Queue(order="lifo_when_late", late_s=1.0)
    waiting = room(workers=1, mean_s=1.0, queue=queue)
    for number in range(6):
        waiting.offer(number, number * 0.25, deadline=None, interactive=True)
    assert waiting.take(1.0) == 0
    assert waiting.take(1.25) == 1
    assert waiting.take(1.75) == 5
    assert waiting.wait_s(1.75) == 0.0
    assert waiting.remove(2)
    assert waiting.take(1.75) == 3
    assert room(queue=Queue(late_s=1.0)).take(9.0) is None


def test_who_is_past_its_deadline_is_handed_out_as_expired_and_never_taken() -> None:
    """Expired tickets leave at their deadline, each once, and those who left before do not."""
    waiting = room(workers=1, mean_s=0.1, queue=Queue(useful_only=False))
    for number, budget_s in enumerate([3.0, 2.0, 9.0, 2.0, None]):
        waiting.offer(number, 0.0, deadline=budget_s, interactive=number % 2 == 0)
    assert waiting.remove(3)
    assert not waiting.remove(3)
    assert waiting.expired(1.9) == []
    assert waiting.expired(2.0) == [1]
    assert waiting.take(3.0) == 2
    assert (waiting.expired(3.0), waiting.expired(99.0), waiting.depth) == ([0], [], 1)


def test_who_has_less_time_left_than_a_service_takes_gives_up_its_place() -> None:
    """With 30 s to live and 1 s of service it leaves after 29 s; one that has just come may try."""
    waiting = room(workers=1, mean_s=1.0)
    waiting.offer(1, 0.0, deadline=30.0, interactive=True)
    assert waiting.expired(28.9) == []
    assert waiting.expired(29.0) == [1]
    assert waiting.offer(2, 29.0, deadline=29.5, interactive=True) is None
    assert waiting.take(29.0) == 2


@pytest.mark.parametrize("deadline_s", [5.0, 30.0, 120.0])
def test_there_is_room_for_bad_luck(deadline_s: float) -> None:
    """With so many ahead the mean, and two deviations of both wait and service, just fit."""
    waiting = room(mean_s=0)
    for service_s in (0.5, 1.5) * 50:
        waiting.served(service_s)
    assert (waiting.mean_s, waiting.sd_s) == pytest.approx((1.0, 0.5), rel=0.02)
    ahead = waiting.useful_depth(deadline_s)
    late = [
        (number * waiting.mean_s + LUCK * waiting.sd_s * sqrt(number)) / 50
        + waiting.mean_s
        + LUCK * waiting.sd_s
        > deadline_s
        for number in (ahead, ahead + 1)
    ]
    assert late == [False, True]


def test_what_is_cut_short_makes_no_service_look_quick() -> None:
    """Of services that take 2 s on average and are cut at 1 s the mean is still found to be 2 s."""
    waiting = room(mean_s=0)
    for number in range(5_000):
        service_s = -2.0 * log1p(-(number * 0.6180339887 % 1))
        waiting.served(min(service_s, 1.0), answered=service_s < 1.0)
    assert waiting.mean_s == pytest.approx(2.0, rel=0.05)


def test_a_ticket_waits_only_once() -> None:
    """The same ticket twice is the caller's mistake; after it left it may come again."""
    waiting = room()
    assert waiting.offer(1, 0.0, deadline=5.0, interactive=True) is None
    with pytest.raises(ValueError, match="waits already"):
        waiting.offer(1, 0.0, deadline=5.0, interactive=False)
    assert waiting.take(0.0) == 1
    assert waiting.offer(1, 1.0, deadline=7.0, interactive=True) is None
    assert waiting.expired(5.0) == []
    assert waiting.take(7.0) is None
    with pytest.raises(ValueError, match="waits already"):
        waiting.offer(1, 7.0, deadline=None, interactive=True)
    assert waiting.expired(7.0) == [1]


def test_workers_may_come_and_go() -> None:
    """Twice the workers halve the wait and double the useful depth, roughly."""
    waiting = room(workers=5, mean_s=1.0)
    fill(waiting, 0.0, 11.0)
    assert (waiting.depth, waiting.wait_s(0.0), waiting.useful_depth(11.0)) == (51, 10.2, 50)
    waiting.workers = 10
    assert (waiting.wait_s(0.0), waiting.useful_depth(11.0)) == (5.1, 100)


def test_the_mean_is_plain_at_first_and_then_of_late() -> None:
    """Fifty samples are averaged plainly; then the newest counts for 2 %."""
    waiting = room(mean_s=0)
    for number in range(50):
        waiting.served(float(number))
    assert waiting.mean_s == pytest.approx(24.5)
    waiting.served(124.5)
    assert waiting.mean_s == pytest.approx(24.5 + 100 * NEWEST)


def test_the_oldest_is_the_oldest_of_all() -> None:
    """Its age is that of the first of either kind, 0 when nobody waits."""
    waiting = room()
    assert waiting.oldest_age_s(5.0) == 0.0
    waiting.offer(1, 1.0, deadline=None, interactive=False)
    waiting.offer(2, 3.0, deadline=None, interactive=True)
    assert waiting.oldest_age_s(5.0) == 4.0
    waiting.remove(1)
    assert waiting.oldest_age_s(5.0) == 2.0


def test_deadlines_of_those_who_left_take_no_memory() -> None:
    """After 100,000 who came and went hardly any deadline is held."""
    waiting = room(workers=1, mean_s=0.001)
    for number in range(100_000):
        assert waiting.offer(number, 0.0, deadline=1e6, interactive=True) is None
        assert waiting.take(0.0) == number
    assert len(waiting._deadlines) <= 65


Step = tuple[float, Literal["offer", "take", "remove", "expired"], float, bool]
steps = st.lists(
    st.tuples(
        st.floats(0, 3),
        st.sampled_from(["offer", "offer", "take", "remove", "expired"]),
        st.floats(0.5, 20),
        st.booleans(),
    ),
    max_size=80,
)


@given(
    steps=steps,
    order=st.sampled_from(["fifo", "lifo_when_late"]),
    useful=st.booleans(),
    size=st.integers(0, 9),
)
def test_everybody_who_was_let_in_leaves_once(
    steps: list[Step], order: Literal["fifo", "lifo_when_late"], useful: bool, size: int
) -> None:
    """Taken, removed and expired are those let in, each once; none is taken past its deadline."""
    waiting = room(2, 1.0, Queue(size=size, order=order, useful_only=useful))
    deadlines, came, inside, now = dict[int, float](), dict[int, float](), set[int](), 0.0

    def is_late(one: int) -> bool:
        spare_s = 1.0 if useful and came[one] < now else 0.0
        return deadlines[one] <= now + spare_s

    for number, (pause_s, what, budget_s, interactive) in enumerate(steps):
        now += pause_s
        left = list[int]()
        if what == "offer":
            deadlines[number], came[number] = now + budget_s, now
            if not waiting.offer(number, now, deadline=now + budget_s, interactive=interactive):
                inside.add(number)
        elif what == "take":
            taken = waiting.take(now)
            assert taken is None or deadlines[taken] > now
            assert taken is not None or all(is_late(one) for one in inside)
            left = [] if taken is None else [taken]
        elif what == "remove" and inside:
            left = [min(inside)]
            assert waiting.remove(left[0])
        else:
            left = waiting.expired(now)
            assert set(left) == {one for one in inside if is_late(one)}
        assert set(left) <= inside
        assert len(set(left)) == len(left)
        inside -= set(left)
        assert waiting.depth <= min(size, len(inside))
    assert set(waiting.expired(now)) | set(iter(lambda: waiting.take(now), None)) == inside
