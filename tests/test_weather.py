"""Regimes, drift, outages, limits and credits as clients meet them: virtually, and on loopback."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jobs import Ran, faulty, items, peak, ran, settings, upstream
from loopback import HANGING, QUESTION, Client, mock, post, run

from mock_llm.config import ColdStart, Drift, Model, Profile, Regime, Throttle, Upstream
from mock_llm.faults import ServerError
from mock_llm.loader import convert
from mock_llm.regimes import Regimes
from mock_llm.rng import Keyed

TIMES = Regime(good_s=20.0, bad_s=10.0, slowdown=3.0)
QUICK = Profile(ttft=0.0)
PAID = {"m": Model(prompt_usd_per_m=1.0, completion_usd_per_m=10.0, max_completion_tokens=100)}
CAPPED = post({**QUESTION, "max_tokens": 50})


MANUAL = (Path(__file__).parents[1] / "docs" / "mock.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", MANUAL, re.DOTALL | re.MULTILINE)


def _admissions(result: Ran) -> list[tuple[float, float]]:
    """When each attempt was admitted, since the run began, and its planned time in seconds."""
    seen = sorted((row.admitted_s or 0.0, row.planned_last_token_s or 0.0) for row in result.seen)
    return [(at_s - seen[0][0], took_s) for at_s, took_s in seen]


def test_client_is_slow_in_bad_times() -> None:
    """Calls of a second take three while the times are bad, and the job gets through."""
    result = ran(items(60), settings(concurrency=1), upstream(1.0, regime=TIMES))
    regimes = Regimes(TIMES, Keyed(1))
    paces = [(regimes.at(at_s), took_s) for at_s, took_s in _admissions(result)]
    assert set(paces) == {("good", 1.0), ("bad", 3.0)}
    assert {row.outcome for row in result.rows} == {"ok"}


def test_client_is_slower_by_the_hour() -> None:
    """Within a period calls slow down to twice their time, and recover."""
    result = ran(
        items(80),
        settings(concurrency=1),
        upstream(1.0, drift=Drift(period_s=60, factors=(1, 2))),
    )
    took = dict(_admissions(result))
    for at_s, took_s in took.items():
        assert took_s == pytest.approx(2 - abs(at_s % 60 - 30) / 30, abs=1e-6)
    assert max(took.values()) > 1.9


def test_client_outlives_a_cold_start() -> None:
    """The first call takes two minutes and is given up in time; its retry finds the model warm."""
    cold = Profile(ttft=0.6, cold_start=ColdStart(extra_s=120))
    chosen = settings(retries=1, attempt_timeout_s=30.0, concurrency=1)
    result = ran(items(2), chosen, Upstream(profile=cold))
    assert [row.error for row in result.rows] == ["attempt_timeout", "", ""]
    assert [row.t_end - (row.t_sent or 0.0) for row in result.rows] == pytest.approx(
        [30.0, 0.6, 0.6], abs=0.01
    )


def test_client_meets_an_outage_again_and_again() -> None:
    """With retries the job outlives ten bad seconds of every minute, in which nothing works."""
    fault = ServerError(rate=1, from_s=20, until_s=30, every_s=60)
    result = ran(items(100), settings(retries=9, concurrency=1), faulty(fault))
    failed = [row.admitted_s or 0.0 for row in result.seen if row.status == 503]
    began_s = min(row.admitted_s or 0.0 for row in result.seen)
    assert {int((at_s - began_s) // 60) for at_s in failed} >= {0, 1}
    assert all(20 <= (at_s - began_s) % 60 < 30 for at_s in failed)
    assert sum(row.outcome == "ok" for row in result.rows) == 100


@pytest.mark.parametrize(
    ("throttle", "slots"),
    [
        (Throttle(tokens_per_min=300), 5),
        (Throttle(tokens_per_min=300, window="fixed", per="account"), 5),
        (Throttle(concurrent=2), 2),
    ],
    ids=["sliding", "fixed", "concurrent"],
)
def test_client_gets_through_a_throttle(throttle: Throttle, slots: int) -> None:
    """Five slots are refused again and again, and in the end every call is answered."""
    result = ran(items(30), settings(retries=30, concurrency=5), upstream(throttle=throttle))
    admitted = [row for row in result.seen if row.status == 200]
    assert (len(admitted), {row.status for row in result.seen}) == (30, {200, 429})
    assert peak(admitted) <= slots
    if throttle.concurrent is None:
        hints = [row.retry_after_s for row in result.rows if row.status == 429]
        assert all(hint is not None for hint in hints)


def test_client_runs_out_of_credits() -> None:
    """Its calls succeed until the balance is spent; from then on all are refused for good."""
    result = ran(items(30), settings(max_tokens=20, concurrency=1), upstream(credits_usd=2e-4))
    statuses = [row.status for row in result.rows]
    paid = statuses.count(200)
    assert 3 < paid < 30
    assert statuses == [200] * paid + [402] * (30 - paid)
    assert sum(row.billed_usd for row in result.seen) <= 2e-4


def test_clients_calls_at_once_exhaust_the_budget_in_flight() -> None:
    """One at a time a balance is enough for all; five at once meet a 402 that no retry follows."""
    provider = upstream(credits_usd=1.5e-3)
    alone, crowd = (
        ran(items(30), settings(concurrency=slots, max_tokens=1000), provider) for slots in (1, 5)
    )
    assert {row.status for row in alone.rows} == {200}
    assert {row.status for row in crowd.rows} == {200, 402}
    assert {row.retry_after_s for row in crowd.rows if row.status == 402} == {5.0}


def test_weather_repeats() -> None:
    """With everything on at once the same seed gives the same rows, and another seed others."""
    fault = ServerError(rate=0.5, from_s=5, until_s=25, ramp_s=5, every_s=30, regimes=("bad",))
    throttle = Throttle(requests_per_min=60, tokens_per_min=2000, concurrent=4)
    more: dict[str, Any] = {"regime": TIMES, "throttle": throttle, "credits_usd": 0.1}
    provider = faulty(fault, drift=Drift(period_s=90, factors=(1, 2)), **more)
    chosen = settings(retries=4, concurrency=5)
    one, same, other = (ran(items(150), chosen, provider, seed=seed) for seed in (1, 1, 2))
    assert (one.rows == same.rows, one.rows == other.rows) == (True, False)
    assert {row.status for row in one.seen} == {200, 429, 503}


def test_times_turn_bad_on_loopback() -> None:
    """A fault of good times strikes until they end; then all is well, and slow."""
    regime = Regime(good_s=0.05, bad_s=1e9, slowdown=10.0)
    faults: Any = {"f": ServerError(rate=1, after_s=0.0, regimes=("good",))}
    provider = Upstream(profile=Profile(ttft=0.001), regime=regime, faults=faults)

    async def test() -> None:
        async with mock(provider) as running:
            client = await running.client()
            statuses = [(await client.ask(post()))[0]]
            while statuses[-1] == 503:
                statuses.append((await client.ask(post()))[0])
            rows = await running.rows(len(statuses))
        assert (statuses[0], statuses[-1]) == (503, 200)
        assert rows[-1].planned_first_token_s == pytest.approx(0.01)

    run(test())


def test_outage_passes_on_loopback() -> None:
    """What strikes every call at first has ended after its window; drift goes on for all."""
    faults: Any = {"f": ServerError(rate=1, after_s=0.0, until_s=0.05)}
    drift = Drift(factors=(5.0,))
    provider = Upstream(profile=Profile(ttft=0.001), drift=drift, faults=faults)

    async def test() -> None:
        async with mock(provider) as running:
            client = await running.client()
            statuses = [(await client.ask(post()))[0]]
            while statuses[-1] == 503:
                statuses.append((await client.ask(post()))[0])
            rows = await running.rows(len(statuses))
        assert statuses == [503] * (len(statuses) - 1) + [200]
        assert len(statuses) > 1
        assert rows[-1].planned_first_token_s == pytest.approx(0.005)

    run(test())


async def _error(client: Client, request: bytes) -> tuple[int, str, dict[str, Any]]:
    """Status, Retry-After and the error of an answer."""
    status, top, body = await client.ask(request)
    hint = top.partition("Retry-After: ")[2].partition("\r\n")[0]
    return status, hint, json.loads(body)["error"]


@pytest.mark.parametrize("cancels", [True, False])
def test_client_that_leaves_frees_its_place(cancels: bool) -> None:
    """A hung call holds its place until its client has gone, whether or not work is cancelled."""
    provider = Upstream(
        throttle=Throttle(concurrent=1), faults=HANGING, handler_cancellation=cancels
    )

    async def test() -> None:
        async with mock(provider) as running:
            hung, second = await running.client(), await running.client()
            hung.writer.write(post())
            await running.admitted.acquire()
            status, hint, error = await _error(second, post())
            assert (status, hint, error["message"]) == (429, "", "Rate limit exceeded")
            await hung.leave()
            await running.rows(2)
            assert running.provider.admission.under_way == 0

    run(test())


def test_tokens_are_limited_on_loopback() -> None:
    """A cap is reserved until the answer is out; the next is refused with the time to wait."""
    provider = Upstream(profile=QUICK, throttle=Throttle(tokens_per_min=100))

    async def test() -> None:
        async with mock(provider) as running:
            client = await running.client()
            answers = [await client.ask(CAPPED) for _ in range(6)]
            rows = await running.rows(6)
        first = [row.prompt_tokens + row.completion_tokens for row in rows if row.status == 200]
        assert answers[-1][0] == 429
        assert 1 <= int(answers[-1][1].partition("Retry-After: ")[2].split()[0]) <= 60
        # Each is admitted where 50 and its prompt are left beside what the others really used.
        assert len(first) == 1 + (100 - 50 - rows[0].prompt_tokens) // first[0]

    run(test())


def test_credits_are_spent_on_loopback() -> None:
    """A hung call reserves what is left: a 402 that passes when it is gone; then all is spent."""
    provider = Upstream(models=PAID, faults=HANGING, credits_usd=6e-4, handler_cancellation=True)
    sound = Upstream(models=PAID, profile=QUICK, credits_usd=6e-4)

    async def test() -> None:
        async with mock(provider) as running:
            hung, client = await running.client(), await running.client()
            hung.writer.write(CAPPED)
            await running.admitted.acquire()
            status, hint, error = await _error(client, CAPPED)
            assert (status, hint) == (402, "5")
            assert error["metadata"]["reason"] == "in_flight_budget_exhausted"
            await hung.leave()
            await running.rows(2)
            running.server.change(sound)
            statuses = [(await client.ask(CAPPED))[0]]
            while statuses[-1] == 200:
                statuses.append((await client.ask(CAPPED))[0])
            status, hint, error = await _error(client, CAPPED)
            credits_ = running.provider.admission.credits
            rows = await running.rows(3 + len(statuses))
        assert (status, hint, error["message"]) == (402, "", "Insufficient credits")
        assert credits_.reserved_usd == 0
        assert credits_.spent_usd == pytest.approx(sum(row.billed_usd for row in rows))

    run(test())


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_of_the_manual_are_met_by_a_client(example: str) -> None:
    """Each loads as it stands, and a client that retries does its work under it."""
    provider = convert(tomllib.loads(example)["upstream"], Upstream, "the manual")
    result = ran(items(20), settings(retries=9, concurrency=5), provider)
    assert provider != Upstream()
    assert {row.outcome for row in result.rows if row.status == 200} == {"ok"}
