"""The end of a service and its next start: what was under way ends or is gone on with."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hosting import QUICK, Front, numbers, sent, serve, toolkit
from jobs import faulty, settings, upstream
from msgspec.structs import replace

from harness.errors import InputError
from harness.pipeline.money import Purse
from harness.pipeline.service.keeping import Keeper
from harness.scenario.resilience import Budget
from mock_llm.faults import ServerError


@pytest.mark.parametrize("limit_s", [0.0, 60.0])
def test_a_drain_without_a_journal_stops_batches(limit_s: float) -> None:
    """What is in flight ends within the limit, the rest is told as stopped; callers get 503."""

    async def test(front: Front) -> None:
        await front.batch(20)
        asked = [asyncio.create_task(front.review(f"Lamp {n}")) for n in range(6)]
        await asyncio.sleep(1.5)
        assert await front.host.drain(limit_s) == (0 if limit_s else 6)
        found = await front.ended("b000001")
        assert (found["status"], found["outcomes"]) == ("stopped", {"ok": len(found["results"])})
        statuses = [(await one).status for one in asked]
        assert statuses == [200 if limit_s else 503] * 6
        assert (await front.batch(3)).body["error"]["type"] == "draining"
        assert (await front.review("A lamp")).body["error"]["type"] == "draining"
        assert (await front.call("GET", "/../readyz")).status == 503

    serve(test)


def test_watchers_are_told_of_the_end() -> None:
    """At a drain a watcher gets an event `end` with status `stopped`, and the stream ends."""

    async def test(front: Front) -> None:
        await front.batch(20)

        async def watch() -> bytes:
            url = "http://127.0.0.1:8080/v1/batches/b000001/events"
            async with front._session.get(url) as response:
                return await response.read()

        watching = asyncio.create_task(watch())
        await asyncio.sleep(1.5)
        await front.host.drain(60)
        last = (await watching).strip().rpartition(b"\n\n")[2]
        assert last.startswith(b"event: end\n")
        assert b'"status":"stopped"' in last

    serve(test)


def test_a_drain_leaves_items_to_the_next_service(tmp_path: Path) -> None:
    """In flight they end, those that wait are not begun; the next service goes on with them."""
    journal = tmp_path / "j"

    async def first(front: Front) -> None:
        await front.batch(20)
        await asyncio.sleep(1.5)
        await front.host.drain(60)
        assert len(sent(front)) == 8

    async def second(front: Front) -> None:
        found = await front.ended("b000001")
        assert numbers(found) == list(range(20))
        assert (found["status"], found["possibly_paid_twice"]) == ("done", [])
        assert {attempt for _, attempt in sent(front)} == {"1"}
        assert len(sent(front)) == 12
        assert (await front.batch(3)).body["id"] == "b000002"

    serve(first, journal=journal)
    serve(second, journal=journal)


def test_what_a_drain_has_to_cut_short_is_in_doubt(tmp_path: Path) -> None:
    """Past the limit attempts are given up and settled; made again, they are named as doubled."""
    journal = tmp_path / "j"

    async def first(front: Front) -> None:
        await front.batch(6)
        await asyncio.sleep(1.5)
        assert await front.host.drain(0.1) == 2

    async def second(front: Front) -> None:
        found = await front.ended("b000001")
        assert found["outcomes"] == {"ok": 6}
        named = [(one["key"], one["attempt"]) for one in found["possibly_paid_twice"]]
        assert named == [("b000001.000004", 1), ("b000001.000005", 1)]
        assert found["possibly_paid_twice_usd"] > 0
        assert sent(front) == [("b000001.000004", "2"), ("b000001.000005", "2")]

    serve(first, journal=journal)
    serve(second, settings(workers=4, retries=0), journal=journal)


def test_a_stored_answer_is_given_after_a_restart(tmp_path: Path) -> None:
    """The same key, user and review get what they got; another's is 409; nothing is sent."""
    said: list[Any] = []

    async def first(front: Front) -> None:
        said.append((await front.review("A lamp", X_Request_Key="k")).body)
        await front.review("A chair")

    async def second(front: Front) -> None:
        assert (await front.review("A lamp", X_Request_Key="k")).body == said[0]
        assert (await front.review("A lamp", X_Request_Key="k", X_User="u")).status == 409
        assert sent(front) == []
        await front.review("A chair")
        assert sent(front) == [("s00000002", "1")]

    for test in (first, second):
        serve(test, journal=tmp_path / "j")


def test_a_request_that_failed_may_be_tried_again_after_a_restart(tmp_path: Path) -> None:
    """No answer is stored for it: its attempts go on where they ended."""

    async def first(front: Front) -> None:
        assert (await front.review("A lamp", X_Request_Key="k")).status == 502

    async def second(front: Front) -> None:
        assert (await front.review("A lamp", X_Request_Key="k")).status == 200
        assert sent(front) == [("k", "2")]

    serve(first, provider=faulty(ServerError(rate=1)), journal=tmp_path / "j")
    serve(second, journal=tmp_path / "j")


def test_money_that_is_spent_stays_spent(tmp_path: Path) -> None:
    """A cap on calls holds over restarts, with and without a shortened journal."""
    budget = Budget(calls=5)
    outcomes: list[int] = []

    async def test(front: Front) -> None:
        outcomes.extend([(await front.review(f"Lamp {n}")).status for n in range(2)])

    for _ in range(4):
        tools = replace(toolkit(), purse=Purse(budget))
        chosen = replace(QUICK, budget=budget)
        serve(test, chosen, tools=tools, journal=tmp_path / "j")
    assert outcomes == [200] * 5 + [402] * 3


def test_what_cannot_be_written_down_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a full disk callers get 503 by name, no call is made, and no worker is lost."""

    def full(*_: object) -> None:
        raise InputError("j: cannot be written: No space left on device")

    async def test(front: Front) -> None:
        assert (await front.batch(3)).status == 202
        monkeypatch.setattr(Keeper, "_write", full)
        for headers in ({}, {"X_Request_Key": "k"}):
            reply = await front.review("A lamp", **headers)
            assert (reply.status, reply.body["error"]["type"]) == (503, "journal")
        assert (await front.batch(3)).body["error"]["type"] == "journal"
        found = await front.ended("b000001")
        assert (found["status"], found["results"]) == ("stopped", [])
        assert sent(front) == []
        assert tools.purse.statistics().reserved_usd == 0
        monkeypatch.undo()

    async def after(front: Front) -> None:
        assert (await front.ended("b000001"))["outcomes"] == {"ok": 3}

    tools = toolkit()
    serve(test, journal=tmp_path / "j", tools=tools)
    serve(after, journal=tmp_path / "j")


def test_items_wait_for_a_provider_that_is_away(tmp_path: Path) -> None:
    """An item that fails for good is a result, kept over a restart, and is not tried again."""

    async def first(front: Front) -> None:
        await front.batch(3)
        assert (await front.ended("b000001"))["outcomes"] == {"failed": 3}

    async def second(front: Front) -> None:
        assert (await front.ended("b000001"))["outcomes"] == {"failed": 3}
        assert sent(front) == []

    serve(first, provider=faulty(ServerError(rate=1)), journal=tmp_path / "j")
    serve(second, provider=upstream(), journal=tmp_path / "j")
