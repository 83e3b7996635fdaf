"""The service on the virtual clock, in front of the real mock: what its tests share."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from jobs import HOST, MODEL, URL, settings

from harness.engines.base import prices_of
from harness.engines.virtual import routed
from harness.engines.virtual_loop import VirtualLoop, run_virtual
from harness.pipeline.routing import SingleRouter
from harness.pipeline.secret import Secret
from harness.pipeline.service.host import Host
from harness.pipeline.toolkit import Toolkit
from harness.records import Record
from harness.scenario.pipeline import Pipeline
from mock_llm.config import Profile, Upstream
from mock_llm.rng import Keyed
from mock_llm.server import MockServer
from mock_llm.tokens import estimate

SERVICE = f"http://{HOST}:8080/v1"
QUICK = settings(workers=4, concurrency=4)


class Reply(NamedTuple):
    """What the service said."""

    status: int
    body: Any
    headers: Any


class Front:
    """A running service and a caller of it."""

    def __init__(self, host: Host, mock: MockServer, session: aiohttp.ClientSession) -> None:
        self.host, self.mock = host, mock
        self._session = session
        self.rows: list[Record] = []

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Ask for something; header names are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.request(
            method, f"{SERVICE}{path}", json=body, headers=named
        ) as response:
            return Reply(response.status, await response.json(), response.headers)

    async def review(self, text: str, **headers: str) -> Reply:
        """Have a review labelled."""
        return await self.call("POST", "/reviews", {"text": text}, **headers)

    async def batch(self, count: int, **headers: str) -> Reply:
        """Hand in a batch of this many reviews."""
        reviews = [{"text": f"Lamp number {n} is a good one."} for n in range(count)]
        return await self.call("POST", "/batches", {"reviews": reviews}, **headers)

    async def ended(self, name: str, **headers: str) -> Any:
        """What has become of a batch, once it has ended."""
        batch = self.host.batches.get(name)
        assert batch is not None
        async for _ in batch.changes():
            pass
        return (await self.call("GET", f"/batches/{name}?limit=100000", **headers)).body


def toolkit(seed: int = 1, url: str = URL) -> Toolkit:
    """What a service is handed."""
    return Toolkit(
        base_url=url,
        api_key=Secret("sk-or-v1-test"),
        prices=prices_of(Upstream()),
        uniform=Keyed(seed).uniform,
        count_tokens=estimate,
    )


def serve(
    test: Callable[[Front], Awaitable[None]],
    chosen: Pipeline = QUICK,
    provider: Upstream | None = None,
    *,
    journal: Path | None = None,
    drain_s: float = 0.0,
    model: str = MODEL,
    tools: Toolkit | None = None,
) -> Front:
    """Run a service while a test asks it; afterwards no task and no slot may be left."""
    mock = MockServer(provider or Upstream(profile=Profile(ttft=1.0)), seed=1)
    fronts: list[Front] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        routed(mock, loop)
        rows: list[Record] = []
        host = Host(
            chosen,
            tools or toolkit(),
            SingleRouter(model),
            record=rows.append,
            drain_s=drain_s,
            journal=journal,
        )
        try:
            async with host, aiohttp.ClientSession() as session:
                loop.route(HOST, 8080, host.protocol_factory)
                host.batches.go_on()
                fronts.append(Front(host, mock, session))
                fronts[0].rows = rows
                await test(fronts[0])
        finally:
            await mock.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert host.service.busy == 0
        assert host.service.processor.is_idle

    run_virtual(main(), seed=1)
    return fronts[0]


def lines(path: Path) -> list[Any]:
    """A journal's lines."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def sent(front: Front) -> list[tuple[str, str]]:
    """Key and attempt of all that the provider has seen."""
    return sorted((row.key, row.attempt) for row in front.mock.ledger.rows)


def numbers(found: Any) -> list[int]:
    """Of the items that have a result."""
    return sorted(one["number"] for one in found["results"])
