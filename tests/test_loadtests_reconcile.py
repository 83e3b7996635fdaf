"""Users, service and mock count the same, or the first request that differs has a name."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_worlds import USD, World, asked, counts_of, record, row, world

from loadtests.reconcile import Count, Reconciled, reconcile

HANG: dict[str, Any] = {"status": None, "outcome": "timed_out", "error": "attempt_timeout"}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20))
def test_a_sound_test_agrees(plan: list[tuple[int, int]]) -> None:
    """Whatever calls each request took, and in whatever order rows were written."""
    made = World([], [], [])
    for n, (calls, order) in enumerate(plan):
        key, numbers = f"u{n}.0", range(1, calls + 1)
        made.asked.append(asked(key, 0.0, attempts=calls, cost_usd=calls * USD))
        made.records.extend(record(key, 0.0, number) for number in numbers or [0])
        if not calls:
            made.records[-1] = msgspec.structs.replace(made.records[-1], t_sent=None, cost_usd=0.0)
        made.rows[order:order] = [row(key, 0.0, number) for number in numbers]
    found = counts_of(made, locust={"review": len(plan)})
    calls = sum(calls for calls, _ in plan)
    assert (found.differences, found.lost, found.unanswered, found.unseen) == ((), (), (), ())
    for sides in found.kinds.values():
        assert (sides.users.requests, sides.locust) == (len(plan), len(plan))
        assert sides.users.attempts == calls
        assert sides.service is not None
        assert sides.mock is not None
        assert (sides.service.attempts, sides.mock.attempts) == (calls, calls)
        assert sides.users.cost_usd == pytest.approx(calls * USD)
        assert sides.mock.cost_usd == pytest.approx(sides.service.cost_usd)


def _no_user(one: World) -> None:
    del one.asked[1]


def _no_record(one: World) -> None:
    del one.records[1]


def _no_call(one: World) -> None:
    del one.rows[1]


def _one_call_more(one: World) -> None:
    one.rows.append(row("u1.0", 1.0, 2))


def _told_otherwise(one: World) -> None:
    one.asked[1] = one.asked[1]._replace(attempts=2)


def _told_dearer(one: World) -> None:
    one.asked[1] = one.asked[1]._replace(cost_usd=USD + 3e-9)


def _billed_dearer(one: World) -> None:
    one.rows[1] = row("u1.0", 1.0, billed_usd=USD + 3e-9)


@pytest.mark.parametrize(
    "spoil",
    [
        *(_no_user, _no_record, _no_call, _one_call_more),
        *(_told_otherwise, _told_dearer, _billed_dearer),
    ],
)
def test_a_difference_names_the_first_request(spoil: Callable[[World], None]) -> None:
    """One row too few, too many or with other figures, on any side."""
    one = world()
    spoil(one)
    found = counts_of(one)
    assert found.differences
    assert all(text.startswith("u1.0: ") for text in found.differences)


def test_many_differences_are_told_by_the_first_ones() -> None:
    """Five by name, and how many more there are."""
    one = world([f"u{n}.0" for n in range(40)])
    one.rows.clear()
    *first, more = counts_of(one).differences
    assert len(first) == 5
    assert first[0].startswith("u0.0: ")
    assert more == "... and 35 more like these"


def test_locust_counts_too() -> None:
    """Its own table has as many requests of a kind as its users saw, or there is a difference."""
    found = counts_of(world(), locust={"review": 4})
    assert found.differences == ("review: Locust counts 4 requests, users 3",)


def test_a_request_that_never_arrived_is_lost() -> None:
    """Its user had no answer, and the service knows nothing of it: named, and no difference."""
    one = world()
    one.asked[1] = asked("u1.0", 1.0, status=0, outcome="failed", attempts=0, cost_usd=0.0)
    del one.records[1], one.rows[1]
    found = counts_of(one)
    assert (found.lost, found.unanswered, found.differences) == (("u1.0",), (), ())


def test_a_request_whose_user_left_is_unanswered() -> None:
    """The service served it and its user gave up first: that is named, its calls still agree."""
    one = world()
    one.asked[1] = asked("u1.0", 1.0, status=0, outcome="timed_out", attempts=0, cost_usd=0.0)
    found = counts_of(one)
    assert (found.lost, found.unanswered, found.differences) == ((), ("u1.0",), ())


def test_what_nobody_waited_for_is_a_guess() -> None:
    """The service cannot know what a call cost that it gave up: both sums are told."""
    one = world()
    one.records[1] = record("u1.0", 1.0, cost_usd=0.0001, **HANG)
    one.asked[1] = asked("u1.0", 1.0, status=504, outcome="timed_out", cost_usd=0.0001)
    found = counts_of(one)
    assert found.differences == ()
    assert (found.estimated_usd, found.billed_usd) == (0.0001, USD)


def test_requests_of_a_dead_process_are_no_difference() -> None:
    """Of whose users nobody is left, by their names; those of the living still are one."""
    one = world()
    del one.asked[1:]
    found = counts_of(one, orphaned=lambda key: key.startswith("u1."))
    assert found.unseen == ("u1.0",)
    assert found.differences == ("u0.1: it was served, and no user asked",)


def test_streams_are_none_of_the_services() -> None:
    """Who asks the mock itself is held against its ledger alone."""
    stream = asked("u7.0", 0.0, kind="stream")
    sound = reconcile([stream], [], [row("u7.0", 0.0)])
    assert sound.differences == ()
    assert sound.kinds["stream"].service is None
    assert sound.kinds["stream"].mock == Count(None, 1, USD)
    assert reconcile([stream], [], []).differences == ("u7.0: 1 calls told, the mock has 0",)


def test_items_belong_to_their_batch() -> None:
    """A batch is one request of its user's, with the calls of all of its items; hedges count."""
    one = asked("b000001", 0.0, kind="batch", attempts=3, cost_usd=3 * USD)
    keys = ["b000001.000000", "b000001.000001"]
    records = [record(key, 0.0) for key in keys] + [record(keys[1], 0.0, 2)]
    rows = [row(key, 0.0) for key in [*keys, f"{keys[1]}~hedge"]]
    found: Reconciled = reconcile([one], records, rows)
    assert found.differences == ()
    assert found.kinds["batch"].service == Count(1, 3, math.fsum([USD] * 3))


def test_a_batch_that_is_not_let_in_has_no_items() -> None:
    """Its user was refused, and there is nothing to be found of it anywhere."""
    refused = {"status": 429, "outcome": "rejected", "attempts": 0, "cost_usd": 0.0}
    found = reconcile([asked("u3.0", 0.0, kind="batch", **refused)], [], [])
    assert (found.differences, found.lost) == ((), ())


def test_without_records_users_are_held_against_the_mock() -> None:
    """What the service told its users of its calls is what the mock has."""
    one = world()
    assert reconcile(one.asked, None, one.rows).differences == ()
    found = reconcile(one.asked, None, one.rows[:-1])
    assert found.differences == ("u0.1: 1 calls told, the mock has 0",)
    assert reconcile(one.asked, None, None).differences == ()
