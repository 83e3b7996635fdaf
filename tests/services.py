"""A service on the virtual clock, reached over its real HTTP, with the real mock behind it."""

import asyncio
import gc
import io
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import aiohttp
import msgspec
from jobs import MODEL, ONE_SECOND, URL, settings

from harness.engines.base import prices_of
from harness.engines.virtual import routed
from harness.engines.virtual_loop import VirtualLoop, run_virtual
from harness.pipeline.money import Purse
from harness.pipeline.routing import SingleRouter
from harness.pipeline.secret import Secret
from harness.pipeline.service.host import Host
from harness.pipeline.toolkit import Toolkit
from harness.records import Record
from harness.scenario.pipeline import Pipeline
from mock_llm.config import Upstream
from mock_llm.ledger import Row
from mock_llm.rng import Keyed
from mock_llm.server import MockServer
from mock_llm.tokens import estimate

HOST, PORT = "127.0.0.1", 8080
SERVICE = f"http://{HOST}:{PORT}"


class Reply(NamedTuple):
    """What the service said, and when."""

    status: int
    body: Any
    headers: dict[str, str]
    at: float

    @property
    def error(self) -> Any:
        """What is inside the envelope."""
        return self.body["error"]


class Caller:
    """Calls the service; `host` is there for a look behind it."""

    def __init__(self, session: aiohttp.ClientSession, host: Host, mock: MockServer) -> None:
        self._session = session
        self.host = host
        self.mock = mock

    async def call(
        self, method: str, path: str, body: Any = None, raw: bytes | None = None, **headers: str
    ) -> Reply:
        """One request; keywords are header fields, with _ for -."""
        data = io.BytesIO(msgspec.json.encode(body) if body is not None else raw or b"")
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.request(
            method, SERVICE + path, data=data, headers=fields
        ) as response:
            text = await response.read()
            found = msgspec.json.decode(text) if text.startswith((b"{", b"[")) else text
            now = asyncio.get_running_loop().time()
            return Reply(response.status, found, dict(response.headers), now)

    async def review(self, text: str = "A good lamp.", **headers: str) -> Reply:
        """Have one review labelled."""
        return await self.call("POST", "/v1/reviews", {"text": text}, None, **headers)


class Served(NamedTuple):
    """What came of it: what the driver returned, the service's rows and the mock's."""

    result: Any
    rows: list[Record]
    seen: list[Row]


Drive = Callable[[Caller], Awaitable[Any]]


def serving(
    drive: Drive,
    chosen: Pipeline | None = None,
    provider: Upstream = ONE_SECOND,
    *,
    seed: int = 1,
    drain_s: float = 0.0,
    **tools: Any,
) -> Served:
    """Run a service while somebody calls it; it must leave no task behind."""
    mock = MockServer(provider, seed=seed)
    rows: list[Record] = []
    kit = Toolkit(
        base_url=URL,
        api_key=Secret("sk-or-v1-test"),
        prices=prices_of(Upstream()),
        uniform=Keyed(seed).uniform,
        count_tokens=estimate,
        purse=Purse((chosen or settings()).budget),
    )
    kit = msgspec.structs.replace(kit, **tools)

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        routed(mock, loop)
        router = SingleRouter(MODEL)
        host = Host(chosen or settings(), kit, router, record=rows.append, drain_s=drain_s)
        try:
            async with host, aiohttp.ClientSession() as session:
                loop.route(HOST, PORT, host.protocol_factory)
                result = await drive(Caller(session, host, mock))
            assert host.service.busy == 0
        finally:
            await mock.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    result = run_virtual(main(), seed=seed)
    gc.collect(1)
    return Served(result, rows, list(mock.ledger.rows))
