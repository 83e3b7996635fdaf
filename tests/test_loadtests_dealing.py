"""Users dealt out to several processes: each exactly once, and what is known of a lost worker."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.corpus import Review
from harness.scenario.workload import Workload
from loadtests.dealing import LATECOMERS, Deal, Flight, Orders, Roll, in_turn, late_deal
from loadtests.numbers import Numbers
from loadtests.sight import Asked, Sight, cause_of

HOSTS = st.sampled_from(["a", "b", "c"])
IDS = st.lists(st.tuples(HOSTS, st.integers(0, 99)), min_size=1, max_size=9, unique=True)


def roll(*names: str) -> Roll:
    """A test has begun with these workers, numbered in this order."""
    found = Roll()
    found.begin({name: index for index, name in enumerate(names)})
    return found


@given(st.integers(1, 9), st.integers(0, 200))
def test_every_user_is_dealt_once(workers: int, users: int) -> None:
    """However many users Locust deals in turn to however many workers, they are 0 to N - 1."""
    numbers = [Numbers(place, workers) for place in range(workers)]
    dealt = [numbers[turn % workers].take() for turn in range(users)]
    assert sorted(user for user, _ in dealt) == list(range(users))


@given(IDS, st.integers(0, 3 * LATECOMERS - 1))
def test_a_user_has_one_owner(ids: list[tuple[str, int]], user: int) -> None:
    """No number is in two processes, not even when workers join late."""
    found = roll(*(f"{host}_{number}" for host, number in ids))
    found.join("late_1", 50)
    found.join("late_2", 51)
    owners = [one for one in found.workers.values() if one.owns(f"u{user}.0")]
    assert len(owners) == 1


def test_hosts_take_turns() -> None:
    """The first worker of every host comes before the second of any."""
    assert in_turn(["b_2", "a_9", "b_1", "a_3", "a_1"]) == ["a_1", "b_1", "a_3", "b_2", "a_9"]


@given(st.lists(st.booleans(), max_size=60))
def test_who_comes_back_goes_on(steps: list[bool]) -> None:
    """Nobody is there twice at once, and a user that comes back has made what it had made."""
    numbers, here, made = Numbers(1, 3), list[int](), dict[int, int]()
    for arrives in steps:
        if arrives:
            user, before = numbers.take()
            assert user not in here
            assert before == made.get(user, 0)
            here.append(user)
        elif here:
            user = here.pop(0)
            made[user] = made.get(user, 0) + 2
            numbers.give_back(user, made[user])
    assert set(here) <= {1 + 3 * n for n in range(60)}


def test_the_lowest_number_comes_first() -> None:
    """Of two users that have gone the lower one comes back first, and then new ones."""
    numbers = Numbers()
    taken = [numbers.take()[0] for _ in range(3)]
    numbers.give_back(2, 5)
    numbers.give_back(0, 7)
    assert taken == [0, 1, 2]
    assert [numbers.take() for _ in range(3)] == [(0, 7), (2, 5), (3, 0)]


def test_requests_are_known_by_their_users() -> None:
    """Keys of users and of arrivals name their worker; a batch job's are nobody's."""
    one = roll("h_1", "h_2").workers["h_2"]
    keys = ["u3.0", "u2.1", "a000005", "a000004", "r000001", "u.1", ""]
    assert [one.owns(key) for key in keys] == [True, False, True, False, False, False, False]


def test_late_workers_have_users_of_their_own() -> None:
    """A worker that joins late gets a range, and keeps it when it asks again."""
    found = roll("h_1")
    assert found.join("h_2", 1) == late_deal(0)
    assert found.join("h_3", 2) == late_deal(1)
    assert found.join("h_2", 1) == late_deal(0)
    assert found.join("h_1", 0) == Deal(0, 1)


def test_a_lost_worker_has_an_obituary() -> None:
    """It says when, how much is known, and how much only the service knows."""
    found = roll("h_1", "h_2")
    gone = found.workers["h_2"]
    gone.rows, gone.heard_s, gone.state = 41, 12.34, "lost"
    (said,) = found.obituaries(["u1.7", "u3.2", "u0.1"])
    assert said == (
        "worker 1 was lost at 12.3 s: 41 rows of its users are known, "
        "what became of 2 more requests only the service knows"
    )
    assert found.owner("u3.2") is gone
    assert found.owner("u0.1") is None
    assert found.waiting() == ["h_1"]


def test_rows_that_did_not_arrive_are_told() -> None:
    """A worker that says it made more rows than have come is named."""
    found = roll("h_1")
    worker = found.workers["h_1"]
    worker.rows, worker.made, worker.state = 7, 9, "done"
    assert found.gaps() == ["worker 0: 2 of its 9 rows did not arrive"]


def test_causes_are_told_in_the_words_of_the_service() -> None:
    """A cause comes before the kind of the error, and a page of somebody else's has its status."""
    told = [
        (200, b"{}"),
        (0, None),
        (504, b'{"error": {"type": "timed_out", "cause": "no_first_token"}}'),
        (429, b'{"error": {"type": "rate_limited", "message": "..."}}'),
        (502, b"<html>"),
        (500, b"[1]"),
    ]
    assert [cause_of(status, data) for status, data in told] == [
        "",
        "no_answer",
        "no_first_token",
        "rate_limited",
        "status_502",
        "status_500",
    ]


def test_rows_of_another_machine_are_put_on_the_masters_clock() -> None:
    """What a worker packs by a clock that is ahead arrives by the master's, and each row once."""
    theirs, ours = Sight(), Sight()
    theirs.add(Asked("u1.0", "u1", "review", 107.5, 107.6, 108.0, 200, "ok"))
    ours.take(theirs.packed(100.0))
    ours.take(theirs.packed(100.0))
    (row,) = ours.rows
    assert (row.t_intended, row.t_end) == (7.5, 8.0)
    assert row.t_sent == pytest.approx(7.6)
    orders = Orders(
        test=1,
        flight=Flight(work=Workload(kind="users", duration_s=1.0), seed=1),
        deal=Deal(),
        began_s=7.0,
        sent_s=6.0,
        machine="ours",
        reviews=msgspec.msgpack.encode((Review(id="1", content="Good."),)),
    )
    assert [orders.ahead_s(106.0, one) for one in ("ours", "theirs")] == [0.0, 100.0]
    assert [one.content for one in orders.texts()] == ["Good."]
