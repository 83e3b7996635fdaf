"""What an account may know of itself, and the lists: against the official SDK's strict models."""

import asyncio
import json

import msgspec
import openrouter
import pytest
from aiohttp import web
from loopback import PATH, QUESTION, Client, head, mock, post, run
from openrouter.components import GenerationResponse
from openrouter.operations import GetCreditsResponse, GetCurrentKeyResponse, ListEndpointsResponse
from virtual_servers import PORT, the_loop

from harness.engines.virtual_loop import run_virtual
from mock_llm.accounts import Accounts
from mock_llm.behaviour import Provider
from mock_llm.config import Profile, Upstream
from mock_llm.connection import Connection, ConnectionServer, Sent
from mock_llm.faults import ServerError
from mock_llm.framing import Framing
from mock_llm.ledger import Ledger
from mock_llm.plan import Call, Plan
from mock_llm.player import Player
from mock_llm.server import MockServer
from mock_llm.wire import identity

# The SDK's model warns of two keys that OpenRouter still sends.
DEPRECATED = pytest.mark.filterwarnings("ignore:warning. .. DEPRECATED:DeprecationWarning")
MINE, OTHERS = {"Authorization": "Bearer key-1"}, {"Authorization": "Bearer key-2"}


async def generation_of(client: Client, body: object = QUESTION) -> str:
    """Ask, and return the id of the answer."""
    _, top, _ = await client.ask(post(body))
    return top.partition("X-Generation-Id: ")[2].partition("\r\n")[0]


@DEPRECATED
def test_key_and_credits_are_what_the_sdk_expects() -> None:
    """Both pages parse strictly, and their usage is what the account was billed, and no other's."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            for _ in range(2):
                await client.ask(post())
            await client.ask(post(Authorization="Bearer key-2"))
            billed = [row.billed_usd for row in await running.rows(3)]
            pages = [
                (await client.ask(head("GET", f"/api/v1/{name}", MINE)))[2]
                for name in ("key", "auth/key", "credits")
            ]
        key = GetCurrentKeyResponse.model_validate_json(pages[0], strict=True).data
        spent = GetCreditsResponse.model_validate_json(pages[2], strict=True).data
        assert pages[0] == pages[1]
        assert (key.label, key.usage, key.limit) == ("key-1", sum(billed[:2]), None)
        assert (spent.total_credits, spent.total_usage) == (1e6, sum(billed[:2]))

    run(test())


@pytest.mark.parametrize("stream", [False, True])
def test_generation_is_what_the_sdk_expects(stream: bool) -> None:
    """An answer's id leads to its tokens, cost and end."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            name = await generation_of(client, {**QUESTION, "stream": stream})
            (row,) = await running.rows(1)
            status, _, body = await client.ask(head("GET", f"/api/v1/generation?id={name}"))
        assert status == 200
        found = GenerationResponse.model_validate_json(body, strict=True).data
        assert (found.id, found.model, found.provider_name) == (name, row.model, "OpenAI")
        assert (found.streamed, found.cancelled, found.finish_reason) == (stream, False, "stop")
        assert (found.tokens_prompt, found.tokens_completion) == (13, 8)
        assert found.total_cost == row.billed_usd > 0

    run(test())


def test_generation_on_the_virtual_clock() -> None:
    """Its times are exact, in milliseconds: all of it, and from the first token on."""

    async def main() -> GenerationResponse:
        server = MockServer(Upstream(profile=Profile(ttft=2.0, itl=0.5)), transit=False)
        loop = the_loop()
        loop.route("127.0.0.1", PORT, server.protocol_factory)
        client = Client(*await asyncio.open_connection("127.0.0.1", PORT))
        name = await generation_of(client)
        _, _, body = await client.ask(head("GET", f"{PATH[:7]}/generation?id={name}"))
        await client.leave()
        await server.close()
        return GenerationResponse.model_validate_json(body, strict=True)

    found = run_virtual(main()).data
    assert (found.latency, found.generation_time) == (5500.0, 3500.0)
    assert found.created_at == "2026-11-01T00:00:00.000Z"


def test_departed_client_has_a_cancelled_generation() -> None:
    """A stream that its client left is there, with what it cost until then."""

    async def test() -> None:
        slow = Upstream(profile=Profile(ttft=0.0, itl=0.01))
        async with mock(slow) as running:
            client = await running.client()
            client.writer.write(post({**QUESTION, "stream": True}))
            top = (await client.reader.readuntil(b"\r\n\r\n")).decode()
            name = top.partition("X-Generation-Id: ")[2].partition("\r\n")[0]
            await client.leave()
            await running.rows(1)
            other = await running.client()
            _, _, body = await other.ask(head("GET", f"/api/v1/generation?id={name}"))
        found = GenerationResponse.model_validate_json(body, strict=True).data
        assert found.cancelled is True
        assert found.tokens_completion is not None
        assert found.tokens_completion < 8

    run(test())


def test_pages_are_the_accounts_own() -> None:
    """Without a key there is a 401, and another's or an unknown generation is not found."""

    async def test() -> None:
        async with mock(Upstream(profile=Profile(ttft=0.0), keys=("key-1", "key-2"))) as running:
            client = await running.client()
            name = await generation_of(client)
            asked = f"/v1/generation?id={name}"
            for path in ("/key", "/v1/credits", asked):
                unknown = {"Authorization": "Bearer key-3"}
                assert (await client.error(head("GET", path, {"Authorization": ""})))[0] == 401
                assert (await client.error(head("GET", path, unknown)))[0] == 401
            assert (await client.ask(head("GET", asked, MINE)))[0] == 200
            lost = [
                (await client.error(head("GET", path, fields)))[:2]
                for path, fields in (
                    (asked, OTHERS),
                    (f"{asked[:-1]}?", MINE),
                    ("/v1/generation?id=gen-x-y", MINE),
                    ("/v1/generation", MINE),
                )
            ]
        assert lost == [(404, "not_found")] * 4

    run(test())


def test_refusal_has_no_generation() -> None:
    """What was refused before the model started cannot be looked up, whatever its id would be."""

    async def test() -> None:
        down = Upstream(faults={"down": ServerError(rate=1, after_s=0.0)})
        async with mock(down, epoch_s=1e9) as running:
            client = await running.client()
            await client.ask(post())
            (row,) = await running.rows(1)
            assert row.admitted_s is not None
            who = identity(row.key, row.draw, int(1e9 + row.admitted_s))
            assert (await client.error(head("GET", f"/generation?id={who.id}")))[0] == 404

    run(test())


def test_endpoints_of_a_model_are_what_the_sdk_expects() -> None:
    """A model has one endpoint, that of its author, at the model's price; others have none."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            path = "/api/v1/models/openai/gpt-4o/endpoints"
            status, _, body = await client.ask(head("GET", path))
            unknown = [
                await client.error(head("GET", one))
                for one in ("/models/openai/gpt-9/endpoints", "/models/openai/gpt-4o", "/models/")
            ]
            users = await client.ask(head("GET", "/models/user"))
        found = ListEndpointsResponse.model_validate_json(body, strict=True).data
        (endpoint,) = found.endpoints
        assert (status, found.id, endpoint.provider_name) == (200, "openai/gpt-4o", "OpenAI")
        assert endpoint.pricing.prompt == "0.0000025"
        assert [error[0] for error in unknown] == [404, 404, 404]
        assert json.loads(users[2])["total_count"] == 5

    run(test())


def test_what_is_not_imitated_says_so() -> None:
    """OpenRouter's other ways to ask a model are a 404 that names the one that is here."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            for name in ("embeddings", "responses", "messages"):
                status, kind, said = await client.error(head(path=f"/api/v1/{name}"))
                assert (status, kind) == (404, "not_found")
                assert "chat completions only" in said

    run(test())


@DEPRECATED
def test_official_client_reads_its_pages() -> None:
    """The `openrouter` client gets credits, key, generation and endpoints."""

    async def test() -> None:
        async with mock() as running:
            name = await generation_of(await running.client())
            url = f"http://127.0.0.1:{running.port}/api/v1"
            async with openrouter.OpenRouter(api_key="key-1", server_url=url) as client:
                spent = await client.credits.get_credits_async()
                key = await client.api_keys.get_current_key_metadata_async()
                found = await client.generations.get_generation_async(id=name)
                ends = await client.endpoints.list_async(author="openai", slug="gpt-4o")
        assert spent.data.total_usage == key.data.usage == found.data.total_cost
        assert ends.data.endpoints[0].model_id == "openai/gpt-4o"

    run(test())


def test_accounts_are_bounded() -> None:
    """The account that was not seen for longest is forgotten, and then begins anew."""
    accounts = Accounts(limit=2)
    for name in ("a", "b", "a", "c"):
        accounts.add(name, 10, 0.5)
    assert [accounts.used(name).attempts for name in "abc"] == [2, 0, 1]
    assert (accounts.used("a").tokens, accounts.used("a").billed_usd, len(accounts)) == (20, 1.0, 2)


class Planned(Provider):
    """A provider that knows beforehand what becomes of a page."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(Upstream(), seed=1)
        self.plan = plan

    def admit(self, call: Call, now: float) -> Plan:  # noqa: ARG002 - it is known beforehand
        """Return the plan."""
        return self.plan


@pytest.mark.parametrize(
    ("plan", "status"),
    [
        (Plan(), 200),
        (Plan(forms=("torn",), ending="end", reach="part"), 200),
        (Plan(status=503, error="provider_overloaded", ending="refused"), 503),
        (Plan(ending="hang"), None),
    ],
)
def test_pages_can_be_planned(plan: Plan, status: int | None) -> None:
    """A page comes whole, is refused, or never comes, as a provider plans it."""

    async def main() -> tuple[int | None, float]:
        loop = the_loop()
        provider = Planned(msgspec.structs.replace(plan, first_token_s=2.0, last_token_s=2.0))
        player = Player(Upstream(), provider, Ledger(), 0.0, transit=False)
        call = Call(key="/models", model="", prompt_tokens=0)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            link = request.protocol
            assert isinstance(link, Connection)
            await player.play_page(link, Framing(), call, b'{"data":[]}')
            return Sent(close=False)

        server = ConnectionServer(handle, handler_cancellation=True)
        loop.route("127.0.0.1", PORT, server)
        client = Client(*await asyncio.open_connection("127.0.0.1", PORT))
        got = None
        try:
            async with asyncio.timeout(10):
                got, _, body = await client.ask(head("GET", "/models"))
                assert b"data" in body or b"error" in body
        except TimeoutError:
            pass
        now = loop.time()
        await client.leave()
        await server.abort()
        return got, now

    assert run_virtual(main()) == (status, 2.0 if status else 10.0)
