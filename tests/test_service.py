"""The service over its own HTTP, on the virtual clock."""

import asyncio
from typing import Any

import pytest
from jobs import faulty, settings, upstream
from services import Caller, Reply, serving

from harness.scenario.resilience import Budget, Queue
from mock_llm.faults import HangBeforeHeaders, ServerError


def test_a_review_is_labelled() -> None:
    """The answer says what it is, what it cost, and where its time went."""

    async def drive(caller: Caller) -> Reply:
        return await caller.review("A very good lamp, I love it.", X_User="ann")

    served = serving(drive)
    reply, (row,) = served.result, served.rows
    assert (reply.status, reply.body["label"], reply.body["attempts"]) == (200, "positive", 1)
    assert reply.headers["X-Attempts"] == "1"
    assert (row.user, row.outcome, row.cost_usd) == ("ann", "ok", reply.body["cost_usd"])
    timing = dict(part.split(";dur=") for part in reply.headers["Server-Timing"].split(", "))
    assert float(timing["total"]) == pytest.approx(1000 * (row.t_end - row.t_queued), abs=1e-3)
    stages = sum(float(ms) for name, ms in timing.items() if name != "total")
    assert stages == pytest.approx(float(timing["total"]), abs=0.01)


def test_workers_are_all_that_is_served_at_once() -> None:
    """Of six at once on two workers, two are answered every second."""

    async def drive(caller: Caller) -> list[Reply]:
        return await asyncio.gather(*(caller.review(f"Lamp {n}.") for n in range(6)))

    served = serving(drive, settings(workers=2))
    assert [round(reply.at) for reply in served.result] == [1, 1, 2, 2, 3, 3]
    assert {row.worker for row in served.rows} == {0, 1}


def test_the_pool_is_scaled_while_it_runs() -> None:
    """More workers begin at once; those that are too many finish what they do."""

    async def drive(caller: Caller) -> list[Reply]:
        asked = [asyncio.create_task(caller.review(f"Lamp {n}.")) for n in range(10)]
        await asyncio.sleep(0.5)
        await caller.call("PUT", "/v1/pool", {"workers": 4})
        await asyncio.sleep(0.6)
        grown = await caller.call("GET", "/v1/pool")
        await caller.call("PUT", "/v1/pool", {"workers": 1})
        replies = await asyncio.gather(*asked)
        assert (grown.body["workers"], grown.body["busy"]) == (4, 4)
        assert caller.host.service.busy == 0
        return replies

    served = serving(drive, settings(workers=1))
    assert all(reply.status == 200 for reply in served.result)
    # One ends at 1 s, three at 1.5 s, one at 2 s; then the pool is one worker again.
    ends = sorted(round(reply.at, 1) for reply in served.result)
    assert ends[:5] == [1.0, 1.5, 1.5, 1.5, 2.0]
    assert ends[5:] == [3.0, 4.0, 5.0, 6.0, 7.0]


def test_interactive_requests_overtake_a_batch() -> None:
    """Whoever waits in front of a screen is served before what nobody waits for."""

    async def drive(caller: Caller) -> Reply:
        body = {"reviews": [{"text": f"Lamp {n}."} for n in range(20)]}
        await caller.call("POST", "/v1/batches", body)
        await asyncio.sleep(1.5)
        return await caller.review("Mine.")

    assert round(serving(drive, settings(workers=1)).result.at) == 3


def test_the_queue_overflows() -> None:
    """What finds no room is refused at once, and a retry at the hint is let in."""

    async def drive(caller: Caller) -> list[Reply]:
        asked = [asyncio.create_task(caller.review(f"Lamp {n}.")) for n in range(4)]
        await asyncio.sleep(1.5)
        for n in range(4, 7):  # two wait already where there is room for three
            asked.append(asyncio.create_task(caller.review(f"Lamp {n}.")))
            await asyncio.sleep(0.01)
        refused = [task.result() for task in asked if task.done()][-1]
        assert refused.status == 503
        await asyncio.sleep(refused.error["retry_after_s"])
        return [refused, await caller.review("Again."), *await asyncio.gather(*asked)]

    chosen = settings(workers=1, queue=Queue(size=3))
    refused, again, *_ = serving(drive, chosen).result
    assert refused.error["type"] == "queue_full"
    assert int(refused.headers["Retry-After"]) >= refused.error["retry_after_s"]
    assert again.status == 200


def test_what_would_come_too_late_is_refused_at_once() -> None:
    """A deadline that the queue cannot keep is told before anything is paid."""

    async def drive(caller: Caller) -> tuple[float, Reply]:
        await caller.review("First.")
        asked = [asyncio.create_task(caller.review(f"Lamp {n}.")) for n in range(5)]
        await asyncio.sleep(0.1)
        began = asyncio.get_running_loop().time()
        late = await caller.review("Late.", X_Deadline="3")
        await asyncio.gather(*asked)
        return began, late

    served = serving(drive, settings(workers=1))
    began, late = served.result
    assert (late.status, late.error["type"]) == (503, "too_late")
    assert late.at - began < 0.01
    assert len(served.seen) == 6


def test_no_request_outlives_its_deadline() -> None:
    """Neither in the queue, nor in an attempt, nor in a backoff."""

    async def drive(caller: Caller) -> list[Reply]:
        return await asyncio.gather(
            *(caller.review(f"Lamp {n}.", X_Deadline="5") for n in range(4))
        )

    chosen = settings(workers=2, attempt_timeout_s=3.0, retries=9, queue=Queue(useful_only=False))
    served = serving(drive, chosen, faulty(HangBeforeHeaders(rate=1.0)))
    assert [reply.status for reply in served.result] == [504] * 4
    assert max(reply.at for reply in served.result) <= 5.0 + 1e-6
    assert {reply.error["type"] for reply in served.result} == {"timed_out"}


def test_a_user_has_a_limit() -> None:
    """The third request in a minute is refused with the true wait; another user's is served."""

    async def drive(caller: Caller) -> list[Reply]:
        ann = [await caller.review(f"Lamp {n}.", X_User="ann") for n in range(3)]
        bob = await caller.review("Lamp.", X_User="bob")
        await asyncio.sleep(ann[2].error["retry_after_s"] - 1.0)
        return [*ann, bob, await caller.review("Lamp 4.", X_User="ann")]

    served = serving(drive, settings(rate_limit=2))
    assert [reply.status for reply in served.result] == [200, 200, 429, 200, 200]
    refused = served.result[2]
    assert refused.error["retry_after_s"] == pytest.approx(60 - 2.0, abs=0.1)


def test_the_same_key_is_paid_once() -> None:
    """Twice at once or again later, it is one request; another review under it is a conflict."""

    async def drive(caller: Caller) -> list[Reply]:
        both = await asyncio.gather(
            *(caller.review("A lamp.", X_Request_Key="k", X_User="ann") for _ in range(2))
        )
        later = await caller.review("A lamp.", X_Request_Key="k", X_User="ann")
        other = await caller.review("A chair.", X_Request_Key="k", X_User="ann")
        stranger = await caller.review("A lamp.", X_Request_Key="k", X_User="bob")
        return [*both, later, other, stranger]

    served = serving(drive)
    assert [reply.status for reply in served.result] == [200, 200, 200, 409, 409]
    assert len(served.seen) == 1


def test_who_leaves_is_not_served() -> None:
    """A caller that hangs up frees its worker at once."""

    async def drive(caller: Caller) -> Reply:
        left = asyncio.create_task(caller.review("Never mind."))
        await asyncio.sleep(0.5)
        left.cancel()
        await asyncio.sleep(0.01)
        return await caller.review("Mine.")

    served = serving(drive, settings(workers=1))
    assert served.result.at == pytest.approx(1.51, abs=0.01)
    assert [row.error for row in served.rows] == ["client_left", ""]


def test_draining_finishes_what_is_there() -> None:
    """New work is refused, the load balancer is told, what waits is served."""

    async def drive(caller: Caller) -> list[Reply]:
        asked = [asyncio.create_task(caller.review(f"Lamp {n}.")) for n in range(3)]
        await asyncio.sleep(0.5)
        drained = asyncio.create_task(caller.host.service.drain(60.0))
        await asyncio.sleep(0.1)
        found = [await caller.call("GET", "/readyz"), await caller.review("New.")]
        await drained
        return found + list(await asyncio.gather(*asked))

    ready, new, *old = serving(drive, settings(workers=1)).result
    assert (ready.status, new.status, new.error["type"]) == (503, 503, "draining")
    assert [reply.status for reply in old] == [200] * 3


def test_a_drain_that_takes_too_long_is_cut_short() -> None:
    """A hung call does not keep the service from stopping."""

    async def drive(caller: Caller) -> Reply:
        asked = asyncio.create_task(caller.review())
        await asyncio.sleep(0.5)
        await caller.host.service.drain(10.0)
        return await asked

    chosen = settings(attempt_timeout_s=None)
    reply = serving(drive, chosen, faulty(HangBeforeHeaders(rate=1.0))).result
    assert (reply.status, reply.error["type"], round(reply.at, 1)) == (503, "draining", 10.5)


def test_a_spent_budget_is_a_402() -> None:
    """Past its cap a user is refused before anything is sent."""

    async def drive(caller: Caller) -> list[Reply]:
        return [await caller.review(f"Lamp {n}.", X_User="ann") for n in range(9)]

    chosen = settings(budget=Budget(user_usd=0.00008))
    served = serving(drive, chosen)
    statuses = [reply.status for reply in served.result]
    assert statuses[0] == 200
    assert statuses[-1] == 402
    assert served.result[-1].error["type"] == "budget_exhausted"
    assert sum(row.billed_usd for row in served.seen) <= 0.00008


def test_users_and_sessions_have_accounts() -> None:
    """What each has asked and spent is told, as the provider has billed it."""

    async def drive(caller: Caller) -> Reply:
        for n in range(3):
            await caller.review(f"Lamp {n}.", X_User="ann", X_Session="s" if n else "t")
        await caller.review("Lamp.", X_User="bob", X_Session="s")
        return await caller.call("GET", "/v1/usage", None, None, X_User="ann", X_Session="s")

    served = serving(drive, settings(budget=Budget(user_usd=1.0)))
    told = served.result.body
    assert (told["of_user"]["requests"], told["of_session"]["requests"]) == (3, 2)
    billed = [row.billed_usd for row in served.seen]
    assert told["of_user"]["cost_usd"] == pytest.approx(sum(billed[:3]))
    assert told["of_session"]["cost_usd"] == pytest.approx(sum(billed[1:3]))
    assert (told["of_user"]["quota_usd"], told["of_session"]["quota_usd"]) == (1.0, None)


def test_a_provider_that_fails_is_a_502() -> None:
    """The cause is named, and so is how often it was tried."""

    async def drive(caller: Caller) -> Reply:
        return await caller.review()

    reply = serving(drive, settings(retries=2), faulty(ServerError(rate=1.0))).result
    assert (reply.status, reply.error["type"]) == (502, "upstream_failed")
    assert (reply.error["cause"], reply.headers["X-Attempts"]) == ("server_error", "3")


def test_a_session_remembers_its_exchanges() -> None:
    """What a session has asked goes along with its next request, and with nobody else's."""

    async def drive(caller: Caller) -> None:
        for n in range(3):
            await caller.review(f"Lamp {n}.", X_User="ann", X_Session="s")
        await caller.review("Lamp.", X_User="bob", X_Session="s")
        await caller.review("Lamp.", X_User="ann")

    served = serving(drive, settings(context="trim", context_exchanges=5))
    first, second, third, stranger, alone = (row.prompt_tokens for row in served.rows)
    assert first < second < third
    assert stranger == alone < second


@pytest.mark.parametrize(
    ("hint", "chosen", "provider"),
    [("a queue", settings(workers=1), upstream(1.0)), ("none", settings(workers=9), upstream(1.0))],
)
def test_runs_repeat(hint: str, chosen: Any, provider: Any) -> None:
    """The same calls give the same rows, with and without a queue."""

    async def drive(caller: Caller) -> None:
        await asyncio.gather(*(caller.review(f"Lamp {n}.") for n in range(9)))

    one, two = (serving(drive, chosen, provider).rows for _ in range(2))
    assert one == two, hint
