"""The cache in a job: hits, one flight for many, and what happens when it comes down."""

from itertools import count

import msgspec
import pytest
from jobs import ONE_SECOND, faulty, items, ran, settings, upstream

from harness.pipeline.request import Item
from harness.records import Record
from harness.scenario.pipeline import Backoff
from mock_llm.faults import HangBeforeHeaders, ServerError
from mock_llm.rng import Keyed

CACHED = settings(cache="memory")


def hits(rows: list[Record]) -> list[Record]:
    return [row for row in rows if row.cache == "hit"]


def paid(rows: list[Record]) -> list[str]:
    return [row.key for row in rows if row.t_sent is not None]


def test_repeats_are_answered_from_memory() -> None:
    """What was answered once is answered again: at once, for nothing, by nobody but the cache."""
    result = ran(items(12, distinct=3), settings(cache="memory", concurrency=1))
    assert paid(result.rows) == ["r000000", "r000001", "r000002"]
    for n, row in enumerate(result.rows[3:], start=3):
        first = result.rows[n % 3]
        assert (row.cache, row.attempt, row.outcome, row.cost_usd) == ("hit", 0, "ok", 0.0)
        assert (row.prompt_tokens, row.completion_tokens) == (
            first.prompt_tokens,
            first.completion_tokens,
        )
        assert row.t_end == row.t_intended
        assert result.job.answers[row.key] == result.job.answers[first.key]
    assert [row.cache for row in result.rows[:3]] == ["miss"] * 3


def test_identical_reviews_in_flight_share_one_call() -> None:
    """Ten of a kind at once make one call, and all of them end with it."""
    result = ran(items(10, distinct=1), settings(cache="memory", concurrency=10))
    leader, *followers = result.rows
    assert paid(result.rows) == ["r000000"]
    assert {row.t_end for row in followers} == {leader.t_end}
    assert {(row.t_intended, row.t_first_token) for row in followers} == {(0.0, leader.t_end)}
    assert len(result.job.answers) == 10


def seed_where(*struck: bool, rate: float = 0.5) -> int:
    """A seed on which the first attempts of the first requests are struck by a fault or not."""
    for seed in count():
        uniform = Keyed(seed).stream("fault:fault 0")
        drawn = [uniform(f"r{n:06d}", 0) < rate for n in range(len(struck))]
        if drawn == list(struck):
            return seed
    raise AssertionError


@pytest.mark.parametrize(
    "fault",
    [ServerError(rate=0.5, after_s=0.25), HangBeforeHeaders(rate=0.5)],
    ids=["refused", "silent"],
)
def test_follower_takes_over(fault: ServerError | HangBeforeHeaders) -> None:
    """When the leader fails, the next in line makes the call and the others wait for that one."""
    seed = seed_where(True, True, False)
    chosen = settings(cache="memory", concurrency=5, attempt_timeout_s=2.0)
    result = ran(items(5, distinct=1), chosen, faulty(fault), seed=seed)
    assert paid(result.rows) == ["r000000", "r000001", "r000002"]
    assert [row.outcome == "ok" for row in result.rows] == [False, False, True, True, True]
    first, second, third, *rest = result.rows
    assert (second.t_slot, third.t_slot) == (first.t_end, second.t_end)
    assert {row.t_end for row in rest} == {third.t_end}


def test_leader_keeps_the_lead_while_it_retries() -> None:
    """A leader that tries again is waited for: there is still one call at a time."""
    chosen = settings(
        cache="memory", concurrency=5, retries=1, backoff=Backoff(base_s=3.0, jitter=None)
    )
    fault = ServerError(rate=0.5, after_s=0.25)
    seed = next(
        seed
        for seed in count()
        if (uniform := Keyed(seed).stream("fault:fault 0"))("r000000", 0) < 0.5
        and uniform("r000000", 1) >= 0.5
    )
    result = ran(items(5, distinct=1), chosen, faulty(fault), seed=seed)
    assert paid(result.rows) == ["r000000", "r000000"]
    assert len(hits(result.rows)) == 4
    assert {row.t_end for row in hits(result.rows)} == {result.rows[1].t_end}


def test_failures_are_not_cached() -> None:
    """What failed is asked again by the next in line."""
    down = faulty(ServerError(rate=1.0))
    result = ran(items(4, distinct=1), settings(cache="memory", concurrency=1), down)
    assert paid(result.rows) == [f"r{n:06d}" for n in range(4)]


def test_answers_grow_stale() -> None:
    """An answer is repeated for an hour after it came, and not any longer."""
    chosen = settings(cache="memory", concurrency=1, attempt_timeout_s=None)
    for seconds, calls in ((1799.0, 3), (1801.0, 4)):
        result = ran(items(4, distinct=3), chosen, upstream(seconds))
        assert len(paid(result.rows)) == calls


def another_model(item: Item) -> Item:
    return msgspec.structs.replace(item, route=items(1, model="openai/gpt-4o")[0].route)


def test_models_do_not_share_answers() -> None:
    """The same text for another model is another question."""
    given = items(4, distinct=1)
    given[1], given[3] = another_model(given[1]), another_model(given[3])
    result = ran(given, settings(cache="memory", concurrency=4))
    assert paid(result.rows) == ["r000000", "r000001"]
    assert [row.model for row in hits(result.rows)] == ["openai/gpt-4o-mini", "openai/gpt-4o"]


def test_hits_take_no_share_of_the_limit() -> None:
    """Only what is sent counts against a user's limit."""
    chosen = settings(cache="memory", rate_limit=2, concurrency=1)
    assert ran(items(20, distinct=2), chosen).rows[-1].t_end < 3.0


def test_without_a_cache_nothing_is_shared() -> None:
    """Every repeat is paid for, and no row speaks of a cache."""
    result = ran(items(6, distinct=1), settings(concurrency=3))
    assert len(paid(result.rows)) == 6
    assert {row.cache for row in result.rows} == {""}


def test_jobs_do_not_share_a_cache() -> None:
    """A new job starts with nothing."""
    for _ in range(2):
        assert len(paid(ran(items(4, distinct=2), CACHED, ONE_SECOND).rows)) == 2
