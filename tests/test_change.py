"""A mock that becomes another provider while it runs, and pages of one's own beside the API."""

import asyncio
import json

import msgspec
import pytest
from aiohttp import web
from loopback import QUESTION, Mock, head, mock, post, run
from virtual_mock import run as run_virtually

from mock_llm import framing
from mock_llm.behaviour import Provider
from mock_llm.config import ColdStart, Profile, Throttle, Upstream
from mock_llm.faults import ServerError
from mock_llm.plan import Call
from mock_llm.server import Page

ONE = Call(key="r", model="openai/gpt-4o-mini", prompt_tokens=10)


def test_what_stays_keeps_its_memory() -> None:
    """Draws, throttle windows, warm models and fault counts outlive a change of something else."""
    upstream = Upstream(
        profile=Profile(ttft=0.0, cold_start=ColdStart(extra_s=9.0)),
        throttle=Throttle(requests_per_min=3),
        faults={"first": ServerError(rate=1.0, first_n=1, status=500)},
    )
    provider = Provider(upstream, seed=1)
    before = provider.admit(ONE, 0.0)
    provider.change(msgspec.structs.replace(upstream, keep_alive_s=9.0))
    after = [provider.admit(ONE, now) for now in (1.0, 2.0, 3.0)]
    assert (before.status, before.draw) == (500, 0)
    assert [(plan.status, plan.draw) for plan in after] == [(200, 1), (200, 2), (429, -1)]
    assert after[0].first_token_s < 1.0


def test_what_changes_begins_anew() -> None:
    """A changed fault counts from nothing, and a fault that is gone strikes no more."""
    provider = Provider(
        Upstream(faults={"a": ServerError(rate=1.0, first_n=1, status=500)}), seed=1
    )
    seen = [provider.admit(ONE, 0.0).status, provider.admit(ONE, 1.0).status]
    provider.change(Upstream(faults={"a": ServerError(rate=1.0, first_n=1, status=529)}))
    seen += [provider.admit(ONE, 2.0).status, provider.admit(ONE, 3.0).status]
    provider.change(Upstream())
    assert [*seen, provider.admit(ONE, 4.0).status] == [500, 200, 529, 200, 200]


def test_server_changes_between_requests() -> None:
    """A fault put in while connections are open strikes the next call on them."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            statuses = [(await client.ask(post()))[0]]
            running.server.change(Upstream(faults={"down": ServerError(rate=1.0, status=503)}))
            statuses.append((await client.ask(post()))[0])
        assert statuses == [200, 503]

    run(test())


def test_own_pages_are_served() -> None:
    """What is mounted gets the request with its body; other paths are still unknown."""

    async def own(request: web.BaseRequest, body: bytes) -> Page:
        return Page(201, framing.JSON, json.dumps([request.path, body.decode()]).encode())

    async def test() -> None:
        async with mock() as running:
            running.server.mount("/__own", own)
            client = await running.client()
            status, _, body = await client.ask(head("PUT", "/__own/page", size=2) + b"hi")
            other = (await client.ask(head("GET", "/__other")))[0]
        assert (status, json.loads(body), other) == (201, ["/__own/page", "hi"], 404)

    run(test())


def test_prices_of_an_attempt_are_those_of_its_admission() -> None:
    """A stream cut short costs what its tokens cost when it began, whatever they cost by then."""

    async def test(running: Mock) -> None:
        client = await running.client()
        client.writer.write(post({**QUESTION, "stream": True}))
        await asyncio.sleep(3.5)
        (slug, model), *_ = running.server.upstream.models.items()
        dearer = msgspec.structs.replace(model, completion_usd_per_m=1000.0)
        running.server.change(Upstream(models={slug: dearer}))
        await client.leave()
        (row,) = await running.rows(1)
        said_usd = row.completion_tokens * model.completion_usd_per_m
        asked_usd = row.prompt_tokens * model.prompt_usd_per_m
        assert row.completion_tokens == 4
        assert row.billed_usd * 1e6 == pytest.approx(said_usd + asked_usd)

    run_virtually(Upstream(profile=Profile(ttft=0.0, itl=1.0), handler_cancellation=True), test)
