"""A job against the real mock on the virtual clock: what each knob does."""

import asyncio
from itertools import pairwise
from typing import Any, Literal

import pytest
from endpoints import completion, endpoint, replies
from jobs import (
    MODEL,
    ONE_SECOND,
    TRANSIT_S,
    Ran,
    check,
    faulty,
    items,
    job_of,
    peak,
    ran,
    settings,
    upstream,
)

from harness.engines.virtual_loop import run_virtual
from harness.pipeline.progress import Progress
from harness.records import Record, in_order, records_sha256, requests
from harness.scenario.pipeline import Backoff
from mock_llm.config import Model, Profile, PromptCache, Throttle, Upstream
from mock_llm.distributions import Lognormal
from mock_llm.faults import HangBeforeHeaders, ServerError
from mock_llm.rng import Keyed
from mock_llm.server import MockServer

UNEVEN = upstream(Lognormal(mean=0.8, sigma=0.7))
FAILING = faulty(ServerError(rate=1.0, status=503, after_s=0.25, retry_after_s=4.0))
DOWN = faulty(ServerError(rate=1.0, status=500, after_s=0.25))
PLAIN = Backoff(base_s=0.5, jitter=None)


def ok(result: Ran) -> list[str]:
    return [row.key for row in result.rows if row.outcome == "ok"]


@pytest.mark.parametrize("concurrency", [1, 3, 8])
@pytest.mark.parametrize("provider", [ONE_SECOND, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("barrier", [False, True])
def test_concurrency_is_the_peak_in_flight(
    concurrency: int, provider: Upstream, barrier: bool
) -> None:
    """The provider sees as many calls at once as there are slots, and never one more."""
    result = ran(items(30), settings(concurrency=concurrency, barrier=barrier), provider)
    assert len(ok(result)) == 30
    assert peak(result.seen) == concurrency


def test_slots_are_never_idle() -> None:
    """Without a barrier a slot that is free takes the next review at once, in input order."""
    rows = ran(items(30), settings(concurrency=3), UNEVEN).rows
    ends = sorted(row.t_end for row in rows)
    assert [row.t_slot for row in rows] == [0.0, 0.0, 0.0, *ends[:27]]
    assert [row.t_intended for row in rows] == [row.t_slot for row in rows]
    assert {row.worker for row in rows} == {0, 1, 2}


@pytest.mark.parametrize(("barrier", "most"), [(True, 10), (False, 24)])
def test_slot_never_taken(barrier: bool, most: int) -> None:
    """The semaphore that nobody acquires lets all of a wave through at once."""
    chosen = settings(slot="never", concurrency=2, barrier=barrier)
    result = ran(items(24), chosen)
    assert len(ok(result)) == 24
    assert peak(result.seen) == most


def test_slot_inside_the_limit() -> None:
    """Whoever waits for its slot runs out of time there, and has sent and paid nothing."""
    chosen = settings(slot="inside_timeout", concurrency=2, attempt_timeout_s=2.5)
    result = ran(items(10), chosen)
    assert ok(result) == [f"r{n:06d}" for n in range(4)]
    late = result.rows[4:]
    assert {(row.outcome, row.error, row.t_intended, row.t_end) for row in late} == {
        ("timed_out", "attempt_timeout", 0.0, 2.5)
    }
    assert [row.t_slot is None for row in late] == [False] * 2 + [True] * 4
    assert [row.cost_usd > 0 for row in late] == [True] * 2 + [False] * 4
    assert peak(result.seen) == 2


def test_barrier_waits_for_the_last_of_a_batch() -> None:
    """A batch joins the queue at the moment at which the slowest of the one before has ended."""
    rows = ran(items(26), settings(barrier=True, concurrency=4), UNEVEN).rows
    batches = [[row for row in rows if row.batch == n] for n in range(3)]
    assert [len(batch) for batch in batches] == [10, 10, 6]
    assert {row.t_queued for row in batches[0]} == {0.0}
    for before, after in pairwise(batches):
        assert {row.t_queued for row in after} == {max(row.t_end for row in before)}


@pytest.mark.parametrize("limit_s", [0.1, 5.5, 7.123457, 30.0])
@pytest.mark.parametrize("slot", ["before_timeout", "inside_timeout", "never"])
@pytest.mark.parametrize("pool", [True, False])
def test_attempt_timeout_is_exact(limit_s: float, slot: str, pool: bool) -> None:
    """A silent call ends at its limit to the last digit, above five seconds as well."""
    silent = faulty(HangBeforeHeaders(rate=1.0))
    chosen = settings(attempt_timeout_s=limit_s, slot=slot, pool=pool, concurrency=3)
    result = ran(items(3), chosen, silent)
    assert [(row.t_end, row.outcome, row.error) for row in result.rows] == [
        (limit_s, "timed_out", "attempt_timeout")
    ] * 3
    assert {row.ended for row in result.seen} == {"client_left"}


def test_keep_alives_do_not_stretch_the_limit() -> None:
    """White space that arrives all the time is no answer: the limit is for the whole attempt."""
    result = ran(items(2), settings(attempt_timeout_s=6.5), upstream(10.0, keep_alive_s=0.4))
    assert [(row.t_end, row.status, row.error) for row in result.rows] == [
        (6.5, 200, "attempt_timeout")
    ] * 2
    assert all(row.t_headers and row.t_first_token is None for row in result.rows)


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_retries_honour_retry_after(retries: int) -> None:
    """Each wait is the provider's hint and the backoff on top; then it is given up."""
    result = ran(items(3), settings(retries=retries, backoff=PLAIN), FAILING)
    for rows in requests(result.rows):
        assert [row.attempt for row in rows] == list(range(1, retries + 2))
        assert {(row.status, row.error, row.retry_after_s) for row in rows} == {
            (503, "http_503", 4.0)
        }
        waits = [after.t_queued - before.t_end for before, after in pairwise(rows)]
        assert waits == pytest.approx([4.0 + 0.5 * 2**n for n in range(retries)], abs=1e-9)
    assert {row.cost_usd for row in result.rows} == {0.0}


def test_jitter_is_keyed() -> None:
    """The wait after each failure is drawn by request and attempt, in whatever order they come."""
    chosen = settings(retries=3, backoff=Backoff(base_s=2.0, jitter="full"), concurrency=2)
    uniform = Keyed(1).uniform
    for rows in requests(ran(items(5), chosen, DOWN).rows):
        waits = [after.t_queued - before.t_end for before, after in pairwise(rows)]
        drawn = [uniform("client.backoff", rows[0].key, n) * 2.0**n for n in (1, 2, 3)]
        assert waits == pytest.approx(drawn, abs=1e-9)


def test_a_worker_backs_off_in_its_slot() -> None:
    """Nobody else is let in while a slot's request waits to try again."""
    rows = ran(items(2), settings(retries=1, concurrency=1, backoff=PLAIN), FAILING).rows
    assert [row.key for row in sorted(rows, key=lambda row: row.t_end)] == [
        "r000000",
        "r000000",
        "r000001",
        "r000001",
    ]
    assert rows[2].t_intended == rows[1].t_end


def test_retries_get_through() -> None:
    """What hangs or fails now and then is answered in the end, and every attempt is on record."""
    shaky = faulty(HangBeforeHeaders(rate=0.3), ServerError(rate=0.3))
    chosen = settings(retries=20, attempt_timeout_s=5.0)
    result = ran(items(20), chosen, shaky)
    assert len(ok(result)) == len(result.job.answers) == 20
    errors = {row.error for row in result.rows}
    assert errors == {"", "attempt_timeout", "http_503"}
    assert all(rows[-1].outcome == "ok" for rows in requests(result.rows))


NARROW = Model(prompt_usd_per_m=1, completion_usd_per_m=1, context_length=10)


@pytest.mark.parametrize(
    ("provider", "status"),
    [
        (upstream(models={"some/other": NARROW}), 400),
        (upstream(models={MODEL: NARROW}), 400),
        (upstream(keys=("sk-or-v1-other",)), 401),
    ],
    ids=["model", "context", "key"],
)
def test_own_fault_is_tried_once(provider: Upstream, status: int) -> None:
    """A request that can never succeed is not repeated and costs nothing."""
    result = ran(items(4), settings(retries=5), provider)
    assert [(row.attempt, row.status, row.outcome, row.error) for row in result.rows] == [
        (1, status, "failed", f"http_{status}")
    ] * 4
    assert {row.cost_usd for row in result.rows} == {0.0}


def test_throttled_provider_is_obeyed() -> None:
    """After a 429 nobody comes back before the hint is over, and everybody gets through."""
    throttled = upstream(throttle=Throttle(requests_per_min=5))
    result = ran(items(18), settings(retries=3, concurrency=6), throttled)
    refused = [row for row in result.rows if row.status == 429]
    assert refused
    assert all(row.retry_after_s and row.retry_after_s >= 1 for row in refused)
    for rows in requests(result.rows):
        assert rows[-1].outcome == "ok"
        for before, after in pairwise(rows):
            assert before.retry_after_s is not None
            assert after.t_sent is not None
            assert after.t_sent >= before.t_end + before.retry_after_s


def starts(rows: list[Record], user: str) -> list[float]:
    found = [row.t_limited for row in rows if row.user == user and row.t_limited is not None]
    return sorted(found)


@pytest.mark.parametrize("provider", [upstream(0.01), UNEVEN], ids=["quick", "uneven"])
@pytest.mark.parametrize("limit", [1, 4])
@pytest.mark.parametrize("concurrency", [2, 30])
def test_rate_limit_holds_in_every_minute(provider: Upstream, limit: int, concurrency: int) -> None:
    """No user ever has more than its limit let through in any 60 s, wherever they begin."""
    chosen = settings(rate_limit=limit, concurrency=concurrency)
    result = ran(items(30, users=3), chosen, provider)
    assert len(ok(result)) == 30
    for user in ("u0", "u1", "u2"):
        let = starts(result.rows, user)
        assert len(let) == 10
        pairs = zip(let, let[limit:], strict=False)
        assert all(later >= first + 60.0 for first, later in pairs)


def test_rate_limit_waits_no_longer_than_it_must() -> None:
    """With everybody waiting, each minute begins with the whole limit."""
    rows = ran(items(20, users=2), settings(rate_limit=4, concurrency=20), upstream(0.01)).rows
    for user in ("u0", "u1"):
        assert starts(rows, user) == [0.0] * 4 + [60.0] * 4 + [120.0] * 2


def test_no_rate_limit() -> None:
    """Without a limit nobody waits for one."""
    rows = ran(items(30), settings(concurrency=30)).rows
    assert starts(rows, "u0") == [0.0] * 30


@pytest.mark.parametrize(
    ("changes", "fresh"), [({"pool": True}, 4), ({"pool": False}, 20), ({"pool_limit": 2}, 2)]
)
def test_pool(changes: dict[str, Any], fresh: int) -> None:
    """A pool has a connection per slot at most; without one every call connects, on both sides."""
    result = ran(items(20), settings(concurrency=4, **changes), upstream(connection_setup=0.5))
    assert sum(row.new_connection for row in result.rows) == fresh
    assert {(row.key, row.new_connection) for row in result.rows} == {
        (row.key, row.new_connection) for row in result.seen
    }
    assert peak(result.seen) == min(fresh, 4)
    for row in result.rows:
        assert row.t_sent is not None
        due = 1.5 if row.new_connection else 1.0
        assert due <= row.t_end - row.t_sent <= due + TRANSIT_S


def test_growing_and_trimming_contexts_are_one_run() -> None:
    """They differ in memory alone: every row is the same."""
    trim, grow = (
        ran(items(30), settings(context=mode, context_exchanges=3), UNEVEN)
        for mode in ("trim", "grow")
    )
    assert records_sha256(trim.rows) == records_sha256(grow.rows)
    assert trim.job.context.peak_bytes < grow.job.context.peak_bytes
    assert len(grow.job.context.to_send()) == 3


def test_failures_are_not_remembered() -> None:
    """Only exchanges that were answered go along with later requests."""
    shaky = faulty(ServerError(rate=0.5))
    result = ran(items(20), settings(context="send_all", concurrency=1), shaky)
    assert 0 < len(ok(result)) < 20
    assert len(result.job.context.to_send()) == len(ok(result))


def test_exchanges_are_in_input_order() -> None:
    """However they end, earlier exchanges go along in the order of their reviews."""
    result = ran(items(30), settings(context="send_all"), UNEVEN)
    ends = [row.t_end for row in result.rows]
    assert ends != sorted(ends)
    assert [exchange.number for exchange in result.job.context.to_send()] == list(range(30))


def test_cached_prompts_cost_less() -> None:
    """The provider's own figure is taken: with a prompt cache it is below the list price."""
    remembering = Upstream(profile=Profile(ttft=1.0, prompt_cache=PromptCache(min_tokens=64)))
    result = ran(items(4), settings(instructions=None, concurrency=1), remembering)
    billed = {row.key: row.billed_usd for row in result.seen}
    assert {row.key: row.cost_usd for row in result.rows} == billed
    assert [row.cached_tokens > 0 for row in result.rows] == [False, True, True, True]
    assert result.rows[1].cost_usd < result.rows[0].cost_usd


def test_unpriced_answer_costs_its_list_price() -> None:
    """Where the provider names no cost, the tokens are priced by the list."""
    unpriced = completion(usage={"prompt_tokens": 1000, "completion_tokens": 100})

    async def test() -> list[Record]:
        async with endpoint(replies(unpriced)) as url:
            job = job_of(items(2), settings(), base_url=url)
            await job.run()
        return job.records

    assert [row.cost_usd for row in run_virtual(test())] == [pytest.approx(210e-6)] * 2


def test_costs_are_those_of_the_provider() -> None:
    """An answer costs what the provider bills; a call given up is estimated, a refusal is free."""
    shaky = faulty(HangBeforeHeaders(rate=0.3), ServerError(rate=0.3))
    chosen = settings(attempt_timeout_s=5.0, concurrency=1, instructions=None)
    result = ran(items(40), chosen, shaky)
    billed = {row.key: row.billed_usd for row in result.seen}
    kinds: dict[str, list[float]] = {"ok": [], "timed_out": [], "failed": []}
    for row in result.rows:
        kinds[row.outcome].append(row.cost_usd)
        if row.outcome == "ok":
            assert row.cost_usd == billed[row.key]
        if row.outcome == "timed_out":
            assert row.cost_usd == pytest.approx(billed[row.key], rel=0.2)
    assert min(map(len, kinds.values())) >= 5
    assert set(kinds["failed"]) == {0.0}


def test_streamed_answers() -> None:
    """A stream brings the same answers, the first token well before the last."""
    slow = Upstream(profile=Profile(ttft=1.0, itl=0.5))
    whole = ran(items(6), settings(), slow)
    streamed = ran(items(6), settings(stream=True), slow)
    assert streamed.job.answers == whole.job.answers
    for row in streamed.rows:
        assert row.t_first_token is not None
        assert row.t_last_token is not None
        assert row.t_last_token - row.t_first_token == pytest.approx(
            0.5 * (row.completion_tokens - 1), abs=1e-6
        )


def test_progress_is_reported() -> None:
    """Behind a barrier each batch reports what it took and cost."""
    told: list[Progress] = []
    result = ran(items(25), settings(barrier=True), UNEVEN, on_progress=told.append)
    assert [(seen.batch, seen.batches, seen.reviews) for seen in told] == [
        (1, 3, 10),
        (2, 3, 20),
        (3, 3, 25),
    ]
    for seen in told:
        rows = [row for row in result.rows if row.batch == seen.batch - 1]
        spent = max(row.t_end for row in rows) - min(row.t_queued for row in rows)
        assert seen.batch_s == pytest.approx(spent)
        assert seen.batch_usd == pytest.approx(sum(row.cost_usd for row in rows))


def test_a_run_repeats() -> None:
    """The same seed gives the same rows, another seed others."""
    shaky = faulty(
        HangBeforeHeaders(rate=0.1), ServerError(rate=0.2), ttft=Lognormal(mean=0.8, sigma=0.7)
    )
    chosen = settings(retries=4, attempt_timeout_s=5.0, rate_limit=20, context="trim")
    digests = [
        records_sha256(ran(items(60, users=2), chosen, shaky, seed=seed).rows) for seed in (1, 1, 2)
    ]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


@pytest.mark.parametrize("slot", ["before_timeout", "inside_timeout"])
def test_on_the_wall_clock(slot: Literal["before_timeout", "inside_timeout"]) -> None:
    """The same job runs over loopback, and conserves."""
    given = items(30, distinct=20)

    async def test() -> Ran:
        mock = MockServer(faulty(ServerError(rate=0.2, after_s=0.0), ttft=0.0))
        port = await mock.start()
        chosen = settings(
            retries=20, attempt_timeout_s=60.0, slot=slot, cache="memory", backoff=Backoff(base_s=0)
        )
        job = job_of(given, chosen, base_url=f"http://127.0.0.1:{port}/api/v1")
        async with asyncio.timeout(60):
            await job.run()
        await mock.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return Ran(job, in_order(job.records), list(mock.ledger.rows))

    result = asyncio.run(test())
    check(result, given)
    assert len(ok(result)) == 30
    assert peak(result.seen) <= 5
