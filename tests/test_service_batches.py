"""Batches and keys of the service: nothing is served twice, nothing is lost, whoever leaves."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hosting import QUICK, Front, lines, numbers, sent, serve, toolkit
from msgspec.structs import replace

from harness.corpus.review import Review
from harness.pipeline.money import Purse
from harness.pipeline.service import core
from harness.pipeline.service.tickets import Ask, Refused
from harness.scenario.resilience import Budget, Queue


class Distant:
    """A limit that is far away, and lets everybody through."""

    async def take(self, *_: object) -> float:
        """See `Limits.take`."""
        await asyncio.sleep(0.1)
        return 0.0


async def left(task: "asyncio.Task[Any]") -> None:
    """A caller that leaves."""
    task.cancel()
    await asyncio.wait([task])


def test_every_item_has_one_result() -> None:
    """A batch larger than queue and pool is served once, item by item."""

    async def test(front: Front) -> None:
        assert (await front.batch(30)).status == 202
        found = await front.ended("b000001")
        assert numbers(found) == list(range(30))
        assert found["outcomes"] == {"ok": 30}
        assert found["cost_usd"] == pytest.approx(front.mock.ledger.totals.billed_usd, abs=1e-12)
        assert len(sent(front)) == 30
        assert front.host.service.outcomes == {"ok": 30}

    serve(test, replace(QUICK, queue=Queue(size=2)))


def test_a_key_of_another_is_taken() -> None:
    """The same key with another user or another review is 409, in flight and afterwards."""

    async def test(front: Front) -> None:
        first = asyncio.create_task(front.review("A lamp", X_Request_Key="k"))
        await asyncio.sleep(0.5)
        for _ in range(2):
            for text, user in (("A lamp", "u2"), ("A lamp!", "anonymous")):
                reply = await front.review(text, X_Request_Key="k", X_User=user)
                assert (reply.status, reply.body["error"]["type"]) == (409, "key_taken")
            assert (await first).status == 200
        assert len(sent(front)) == 1

    serve(test)


@pytest.mark.parametrize("key", ["s00000001", "b000001.000000"])
def test_keys_of_the_services_own_form_are_refused(key: str) -> None:
    """No client can take the key that an item or a request without one will have."""

    async def test(front: Front) -> None:
        reply = await front.review("A lamp", X_Request_Key=key)
        assert (reply.status, reply.body["error"]["field"]) == (400, "X-Request-Key")

    serve(test)


def test_in_flight_it_is_joined_and_afterwards_remembered() -> None:
    """Three callers with one key get one answer, for which one call was made."""

    async def test(front: Front) -> None:
        both = [asyncio.create_task(front.review("A lamp", X_Request_Key="k")) for _ in range(2)]
        answers = [(await one).body for one in both]
        answers.append((await front.review("A lamp", X_Request_Key="k")).body)
        assert answers[1:] == answers[:2]
        assert sent(front) == [("k", "1")]

    serve(test)


def test_a_key_is_joined_while_its_users_limit_is_asked() -> None:
    """Callers who all wait for a distant limit still make one request of one key."""

    async def test(front: Front) -> None:
        front.host.service._limits = Distant()
        asked = [asyncio.create_task(front.review("A lamp", X_Request_Key="k")) for _ in range(5)]
        assert [(await one).status for one in asked] == [200] * 5
        assert sent(front) == [("k", "1")]

    serve(test)


def test_nobody_is_let_in_who_asked_before_the_drain() -> None:
    """A drain that begins while a distant limit is asked refuses whoever waits for it."""

    async def test(front: Front) -> None:
        front.host.service._limits = Distant()
        asked = asyncio.create_task(front.review("A lamp", X_Request_Key="k"))
        await asyncio.sleep(0.05)
        await front.host.drain(0)
        assert (await asked).status == 503
        assert sent(front) == []

    serve(test)


def test_only_keys_of_clients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch pushes no client's answer out, and of those only so many are held."""
    monkeypatch.setattr(core, "REMEMBERED", 2)

    async def test(front: Front) -> None:
        for key in ("k1", "k2", "k3"):
            await front.review("A lamp", X_Request_Key=key)
        await front.batch(10)
        await front.ended("b000001")
        assert list(front.host.service._ended) == ["k2", "k3"]
        await front.review("A lamp", X_Request_Key="k1")
        assert [key for key, _ in sent(front) if key == "k1"] == ["k1"] * 2

    serve(test)


def test_one_who_comes_back_joins_no_request_that_is_being_withdrawn(tmp_path: Path) -> None:
    """The last waiter leaves and asks again at once: the cut attempt is settled, a new one made."""

    async def test(front: Front) -> None:
        first = asyncio.create_task(front.review("A lamp", X_Request_Key="k"))
        await asyncio.sleep(0.5)
        await left(first)
        reply = await front.review("A lamp", X_Request_Key="k")
        assert reply.status == 200
        assert sent(front) == [("k", "1"), ("k", "2")]

    serve(test, journal=tmp_path / "j")
    ends = [line["row"] for line in lines(tmp_path / "j") if line.get("line") == "settled"]
    assert [(row["attempt"], row["error"]) for row in ends] == [(1, "client_left"), (2, "")]


def test_one_who_comes_back_at_any_step_is_answered() -> None:
    """Between the leaving of the last waiter and the end of the request nobody joins it."""

    async def test(front: Front) -> None:
        service = front.host.service
        for steps in range(6):
            review = Review(id="0", content="A lamp")
            ask = Ask(review=review, user="u", session="", key=f"k{steps}", named=True)
            first = asyncio.create_task(service.submit(ask))
            await asyncio.sleep(0.5)
            first.cancel()
            for _ in range(steps):
                await asyncio.sleep(0)
            assert (await service.submit(ask)).answer is not None

    serve(test)


def test_a_request_cancelled_before_its_first_step_gives_its_worker_back() -> None:
    """Withdrawn at any step, even just when a worker took it, it ends and the worker is free."""

    async def test(front: Front) -> None:
        for steps in range(16):
            await front.batch(10)
            batch = front.host.batches.get(f"b{steps + 1:06d}")
            assert batch is not None
            for _ in range(steps):
                await asyncio.sleep(0)
            await front.host.batches.cancel(batch)
            assert front.host.service.busy == 0
        assert (await front.review("A lamp")).status == 200

    serve(test)


def test_a_batch_can_be_withdrawn_in_the_middle_of_attempts(tmp_path: Path) -> None:
    """What was cut short is a result, with its cost, and settled; nothing more is sent."""

    async def test(front: Front) -> None:
        await front.batch(20)
        await asyncio.sleep(1.5)
        reply = await front.call("DELETE", "/batches/b000001")
        assert (reply.body["status"], reply.body["outcomes"]["ok"]) == ("cancelled", 4)
        found = await front.ended("b000001")
        cut = [one for one in found["results"] if one["outcome"] == "failed"]
        assert {one["error"] for one in cut} == {"cancelled"}
        assert sum(one["attempts"] for one in cut) == 4
        assert min(one["cost_usd"] for one in cut if one["attempts"]) > 0
        assert found["cost_usd"] == pytest.approx(sum(one["cost_usd"] for one in found["results"]))
        await asyncio.sleep(10)
        assert len(sent(front)) == 8
        assert front.host.service.outcomes.total() == len(found["results"])

    serve(test, journal=tmp_path / "j")
    told = lines(tmp_path / "j")
    begun = [line for line in told if line.get("line") == "attempt"]
    ends = [line for line in told if line.get("line") == "settled"]
    assert len(begun) == len(ends) == 8
    assert [line["kind"] for line in ends].count("abandoned") == 4

    async def after(front: Front) -> None:
        found = await front.ended("b000001")
        assert (found["status"], found["outcomes"]["ok"]) == ("cancelled", 4)
        await asyncio.sleep(10)
        assert sent(front) == []

    serve(after, journal=tmp_path / "j")


def test_a_budget_ends_what_is_left_as_rejected() -> None:
    """When the money is spent the batch is done: some items are answered, the others rejected."""

    async def test(front: Front) -> None:
        await front.batch(20)
        found = await front.ended("b000001")
        assert found["status"] == "done"
        assert numbers(found) == list(range(20))
        assert found["outcomes"] == {"ok": 7, "rejected": 13}
        assert {one["error"] for one in found["results"]} == {"", "budget"}

    budget = Budget(calls=7)
    tools = replace(toolkit(), purse=Purse(budget))
    serve(test, replace(QUICK, budget=budget), tools=tools)


def test_a_final_refusal_is_a_result() -> None:
    """An item that is never let in is rejected by name, and takes no other item with it."""

    async def test(front: Front) -> None:
        service, enter = front.host.service, front.host.service.enter

        async def entering(ask: Any, past: Any = None) -> Any:
            if ask.key.endswith("3"):
                raise Refused("budget")
            return await enter(ask, past)

        service.enter = entering  # type: ignore[method-assign]
        await front.batch(10)
        found = await front.ended("b000001")
        assert (found["status"], found["outcomes"]) == ("done", {"ok": 9, "rejected": 1})
        assert [one["error"] for one in found["results"] if one["number"] == 3] == ["budget"]

    serve(test)


def test_a_batch_with_a_key_is_taken_once() -> None:
    """Handed in again with the same key it is the same batch; with other reviews it is 409."""

    async def test(front: Front) -> None:
        first = await front.batch(3, X_Request_Key="k")
        again = await front.batch(3, X_Request_Key="k")
        other = await front.batch(4, X_Request_Key="k")
        user = await front.batch(3, X_Request_Key="k", X_User="u2")
        assert [one.status for one in (first, again, other, user)] == [202, 202, 409, 409]
        assert first.body["id"] == again.body["id"] == "b000001"
        assert (await front.batch(3)).body["id"] == "b000002"

    serve(test)
