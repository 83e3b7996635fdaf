"""Bottlenecks: each cause is found where it is and not where it is not, by records alone."""

from statistics import NormalDist

import msgspec
import pytest
from rows import attempt, served

from harness.attribution import Stage
from harness.bottlenecks import Bottleneck, bottlenecks, connection_cost_s, held_s, peak_in_flight
from harness.records import Record
from harness.scenario.pipeline import Pipeline
from mock_llm.rng import Keyed

FIVE = Pipeline(attempt_timeout_s=30.0)
ONE = Pipeline(concurrency=1, attempt_timeout_s=None)
INSIDE = Pipeline(slot="inside_timeout", attempt_timeout_s=30.0)
EVEN = [1.0] * 100
EVENLY = served(EVEN)
UNEVEN = [*[1.0] * 9, 4.0] * 10


def _hung(key: str, seconds: float, error: str, **changes: object) -> Record:
    """A call that was sent and never answered, from the start of the run."""
    return msgspec.structs.replace(
        attempt(key, spent={"first_token": seconds}, ended_in="first_token", error=error), **changes
    )


def _late(key: str, spent_in_line: float = 30.0, **changes: object) -> Record:
    """A request that awaited its slot until its time was up."""
    row = attempt(key, spent={"slot": spent_in_line}, ended_in="slot", error="attempt_timeout")
    return msgspec.structs.replace(row, **changes)


def _refused(rows: list[Record], status: int, n: int) -> list[Record]:
    """The run with its last n calls turned away."""
    changes = {"outcome": "failed", "status": status, "error": f"http_{status}"}
    return [*rows[:-n], *(msgspec.structs.replace(row, **changes) for row in rows[-n:])]


def _retried(first: Record, back: float) -> list[Record]:
    """An attempt that failed, and the one that mended it later."""
    again = attempt(first.key, 2, since=back, t_intended=first.t_intended)
    return [first, again]


def _never_let_in(n: int, deadline: float) -> list[Record]:
    return [
        attempt(f"z{i}", 0, spent={"queue": deadline}, ended_in="queue", error="job_deadline")
        for i in range(n)
    ]


def _waited_for_the_limit(n: int) -> list[Record]:
    """Five slots, each of which holds a request for half a minute before it may call."""
    spent: dict[Stage, float] = {"limiter": 29.0, "first_token": 1.0}
    return [attempt(f"r{i:03}", since=30.0 * (i // 5), spent=spent) for i in range(n)]


def _limited(rows: list[Record], seconds: float) -> list[Record]:
    """The run with so much of each request's time spent in the per-user limit."""
    return [
        msgspec.structs.replace(row, t_limited=at, t_slot=at, t_connected=at, t_sent=at)
        for row in rows
        for at in [(row.t_admitted or 0.0) + seconds]
    ]


def _warming(n: int, cold: float) -> list[Record]:
    """Lognormal times (sigma .2) whose median falls from `cold` seconds to one."""
    uniform, quantile = Keyed(1).uniform, NormalDist(0, 0.2).inv_cdf
    noise = [2.718281828 ** quantile(uniform("test", str(i), 0)) for i in range(n)]
    return served([(cold + (1 - cold) * i / n) * noise[i] for i in range(n)])


CASES: dict[str, tuple[list[Record], Pipeline, set[str]]] = {
    "nothing": ([], FIVE, set()),
    "one request": (served([1.0]), FIVE, set()),
    "no duration": ([attempt(spent={})], FIVE, set()),
    "all from the cache": (
        [attempt(f"r{i}", 0, t_sent=None, t_connected=None, cache="hit") for i in range(9)],
        FIVE,
        set(),
    ),
    "slots": (served(EVEN), FIVE, {"slots"}),
    "few requests with a tail": (served([1.0] * 21), FIVE, {"slots"}),
    "fewer calls than slots": (served([1.0] * 4), FIVE, set()),
    "pool": (
        [
            msgspec.structs.replace(row, t_connected=(row.t_slot or 0.0) + 0.4)
            for row in served(EVEN)
        ],
        FIVE,
        {"pool"},
    ),
    "barrier": (served(UNEVEN, wave=10), FIVE, {"barrier"}),
    "a barrier that costs nothing": (served(EVEN, wave=10), FIVE, {"slots"}),
    "slow ones without a barrier": (served(UNEVEN), FIVE, {"slots"}),
    "semaphore": (served(EVEN, slots=10), FIVE, {"semaphore_not_acquired"}),
    "semaphore and barrier": (
        served(UNEVEN, slots=10, wave=10),
        FIVE,
        {"semaphore_not_acquired", "barrier"},
    ),
    "slot inside the limit": (
        [*served([6.0] * 25), *(_late(f"z{i}") for i in range(50))],
        INSIDE,
        {"slot_inside_limit"},
    ),
    "slot inside the limit, mended by retries": (
        [*served([6.0] * 25), *_retried(_late("z"), 31.0)],
        INSIDE,
        {"slot_inside_limit"},
    ),
    "serial": (served(EVEN, slots=1), ONE, {"serial"}),
    "one call and many hits": (
        [*served([1.0]), *(attempt(f"z{i}", 0, t_sent=None, cache="hit") for i in range(9))],
        FIVE,
        set(),
    ),
    "connections": (served(EVEN, new_connection=True), FIVE, {"slots", "connections"}),
    "limiter and barrier": (
        _limited(served([*[2.0] * 9, 5.0] * 10, wave=10), 1.0),
        FIVE,
        {"limiter", "barrier"},
    ),
    "a first connection for each slot": (served([1.0] * 4, new_connection=True), FIVE, set()),
    "a pool that is renewed now and then": (
        [
            *served(EVEN[:30], new_connection=True),
            *(msgspec.structs.replace(row, key=f"z{row.key}") for row in EVENLY),
        ],
        Pipeline(concurrency=10),
        {"slots"},
    ),
    "the limit awaited without a slot": (
        _waited_for_the_limit(50),
        Pipeline(slot="never"),
        {"limiter"},
    ),
    "limiter": (_waited_for_the_limit(50), FIVE, {"limiter"}),
    "waits for ever": (
        [*served(EVEN), _hung("z", 500.0, "never_answered", outcome="failed")],
        Pipeline(attempt_timeout_s=None, concurrency=6),
        {"waits_for_ever"},
    ),
    "job deadline": (
        [*served(EVEN, slots=1), *_never_let_in(20, 100.0)],
        ONE,
        {"serial", "job_deadline"},
    ),
    "job deadline and a hang": (
        [*served(EVEN), _hung("z", 600.0, "job_deadline"), *_never_let_in(20, 600.0)],
        Pipeline(attempt_timeout_s=None, concurrency=6),
        {"job_deadline", "no_time_limit"},
    ),
    "a first call that hangs until the job's deadline": (
        [_hung("z", 600.0, "job_deadline")],
        ONE,
        {"job_deadline", "no_time_limit"},
    ),
    "a job's deadline sooner than a call's limit": (
        [*served(EVEN), _hung("z", 25.0, "job_deadline")],
        FIVE,
        {"job_deadline", "semaphore_not_acquired"},
    ),
    "limit too long": (
        [*served(EVEN), *_retried(_hung("z", 30.0, "attempt_timeout"), 30.0)],
        Pipeline(concurrency=6, attempt_timeout_s=30.0),
        {"limit_too_long"},
    ),
    "limit as short as it can be": (
        [*served([20.0] * 25), *_retried(_hung("z", 30.0, "attempt_timeout"), 30.0)],
        Pipeline(concurrency=6, attempt_timeout_s=30.0),
        {"no_first_token"},
    ),
    "nothing but hangs": (
        [_hung(f"z{i}", 30.0, "attempt_timeout") for i in range(5)],
        FIVE,
        {"no_first_token", "failures"},
    ),
    "throttled": (
        [*EVENLY[:-1], *_retried(_refused(EVENLY, 429, 1)[-1], 21.0)],
        FIVE,
        {"throttled"},
    ),
    "throttled and given up": (
        _refused(EVENLY, 429, 50),
        FIVE,
        {"throttled"},
    ),
    "out of credit": (
        _refused(EVENLY, 402, 50),
        FIVE,
        {"no_credit", "slots"},
    ),
    "throttled and out of credit": (
        [*_refused(EVENLY[:50], 402, 25), *_refused(EVENLY[50:], 429, 25)],
        FIVE,
        {"throttled", "no_credit"},
    ),
    "server errors": (
        [*EVENLY[:-1], *_retried(_refused(EVENLY, 503, 1)[-1], 21.0)],
        FIVE,
        {"server_errors", "slots"},
    ),
    "other failures": (
        _refused(EVENLY, 400, 50),
        FIVE,
        {"failures", "slots"},
    ),
    "warming up": (_warming(100, 3.0), FIVE, {"warming_up", "slots"}),
    "hardly warming": (_warming(1000, 1.3), FIVE, {"slots"}),
    "warm": (_warming(100, 1.0), FIVE, {"slots"}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_found_is_what_is_there(case: str) -> None:
    """Each cause is found in rows that have it, and no other is found in them."""
    records, settings, expected = CASES[case]
    found = bottlenecks(records, settings, job_failed="deadline" in case)
    assert {bottleneck.cause for bottleneck in found} == expected
    assert len(found) == len(expected)


def _one(case: str, cause: str) -> Bottleneck:
    records, settings, _ = CASES[case]
    found = bottlenecks(records, settings, job_failed="deadline" in case)
    return next(bottleneck for bottleneck in found if bottleneck.cause == cause)


@pytest.mark.parametrize("case", CASES)
def test_the_costliest_comes_first(case: str) -> None:
    """A cost is a share, and shares fall from bottleneck to bottleneck."""
    records, settings, _ = CASES[case]
    costs = [bottleneck.lost for bottleneck in bottlenecks(records, settings)]
    assert costs == sorted(costs, reverse=True)
    assert all(0 <= cost <= 1 for cost in costs)


COSTS = [
    # Ten reviews of 1 s but one of 4 s take 5 s on five slots: 13 of 25 slot seconds are used.
    ("barrier", "barrier", 12 / 25),
    ("semaphore", "semaphore_not_acquired", 0.5),
    ("slot inside the limit", "slot_inside_limit", 50 / 75),
    ("limiter", "limiter", 29 / 30),
    # On five slots such a batch takes 7 s: of 35 slot seconds 10 go to the limit, 13 serve.
    ("limiter and barrier", "limiter", 10 / 35),
    ("limiter and barrier", "barrier", 12 / 35),
    ("waits for ever", "waits_for_ever", 1.0),
    ("job deadline", "job_deadline", 1.0),
    ("throttled and given up", "throttled", 50 / 100),
    ("other failures", "failures", 50 / 100),
    # 30 s of six slots over 31 s.
    ("limit too long", "limit_too_long", 30 / (6 * 31)),
]


@pytest.mark.parametrize(("case", "cause", "lost"), COSTS)
def test_a_cost_is_worked_out_from_the_rows(case: str, cause: str, lost: float) -> None:
    """The share of the slots' time, or of the requests, is what hand arithmetic gives."""
    assert _one(case, cause).lost == pytest.approx(lost)


TEXTS = [
    ("slots", "slots", "its 5 slots, 100% busy: one more is worth 1.00/s"),
    (
        "limit too long",
        "limit_too_long",
        (
            "1 calls held a slot for 30 s each until they were given up, 16% of the slots' time; "
            "2.0 s would do (p99 of answers is 1.0 s)"
        ),
    ),
    (
        "nothing but hangs",
        "no_first_token",
        "5 calls held a slot for 30 s each until they were given up, 100% of the slots' time",
    ),
    (
        "the limit awaited without a slot",
        "limiter",
        "the limit per user: 97% of the requests' time is spent waiting for it",
    ),
    ("server errors", "server_errors", "1 answers of 5xx, retried"),
    ("out of credit", "no_credit", "50 answers of 402, 50 requests given up"),
    (
        "throttled and out of credit",
        "throttled",
        "throttled 25 times, 0% of the slots' time spent backing off, 25 requests given up",
    ),
    ("other failures", "failures", "50 of 100 requests came to nothing: http_400 50"),
    (
        "job deadline",
        "job_deadline",
        "the job's deadline: 100 of 120 answered, nothing handed over",
    ),
]


@pytest.mark.parametrize(("case", "cause", "text"), TEXTS)
def test_a_bottleneck_says_its_figures(case: str, cause: str, text: str) -> None:
    """The text carries the numbers that the rows give, and no advice that they do not."""
    assert _one(case, cause).text == text


@pytest.mark.parametrize("seed", range(1, 21))
def test_scatter_is_no_warming_up(seed: int) -> None:
    """Fifty calls of the crisis' own spread (sigma .65) do not look like a provider that warms."""
    uniform, quantile = Keyed(seed).uniform, NormalDist(0, 0.65).inv_cdf
    times = [2.718281828 ** quantile(uniform("test", str(i), 0)) for i in range(50)]
    assert "warming_up" not in {bottleneck.cause for bottleneck in bottlenecks(served(times), FIVE)}


def test_server_errors_that_nobody_retried_are_not_called_so() -> None:
    """Where 5xx ended requests, the text says how many."""
    (found,) = bottlenecks(_refused(served([1.0] * 4), 503, 2), FIVE)
    assert found.text == "2 answers of 5xx, 2 requests given up"
    assert found.lost == 0.5


def test_handing_over_a_slot_is_not_overlapping() -> None:
    """A call that ends when another begins shares no moment with it."""
    assert peak_in_flight(served(EVEN, slots=1)) == 1
    assert peak_in_flight(served(EVEN, slots=7)) == 7
    assert peak_in_flight([attempt(t_sent=None)]) == 0


def test_a_slot_is_held_through_backoff() -> None:
    """From the first attempt's slot to the last one's end, and by nothing that never called."""
    rows = [*_retried(_hung("a", 2.0, "attempt_timeout"), 5.0), _late("b")]
    assert held_s(rows) == 6.0


def test_the_cost_of_a_connection_is_the_difference_in_one_weather() -> None:
    """It is the median over requests that both runs made, one on a new connection, one not."""
    times = [float(n) for n in range(1, 10)]
    pooled = served(times)
    unpooled = served([time + 0.2 for time in times], new_connection=True)
    assert connection_cost_s(unpooled, pooled) == pytest.approx(0.2)
    assert connection_cost_s(pooled, unpooled) is None
    assert connection_cost_s(unpooled, []) is None
