"""A running service: its client, its batches, its HTTP side; opened and closed as one."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from aiohttp import web

from harness.pipeline.client import ChatClient
from harness.pipeline.common import Common
from harness.pipeline.routing import Router
from harness.pipeline.service.batches import Batches
from harness.pipeline.service.core import Service
from harness.pipeline.service.keeping import Keeper, Resumed, header_of
from harness.pipeline.service.lag import LagMeter
from harness.pipeline.service.lines import Doubt, Story
from harness.pipeline.service.metrics import Exposition, Watched
from harness.pipeline.service.monitor import Monitor
from harness.pipeline.service.web import Front
from harness.pipeline.toolkit import Toolkit
from harness.records import Record
from harness.scenario.pipeline import Pipeline

BACKLOG = 4096  # a burst of a thousand users must not meet a full backlog
FAREWELL_S = 2.0
"""How long readers of the last answers are waited for."""


class Host:
    """A service that can be asked over HTTP.

    Args:
        settings: of the pipeline.
        tools: see `Toolkit`.
        router: decides about each review's model.
        record: is handed every row.
        drain_s: how long what is under way may go on at the end.
        monitor: counts, and logs where it has a log.
        lag: of the loop, where it is measured.
        journal: file that outlives the process, whatever kills it: the next service goes on where
            it ends. None: what is not done is lost with the process.

    Attributes:
        monitor: what was handed in, or its own.
        service: behind it; there while it is open.
        common: what its requests have in common.
        batches: of the service.
        app: its HTTP side, likewise.
        in_doubt: attempts that were in flight when the service before this one died.

    Raises:
        InputError: on entering; see `Keeper.take_up`.
    """

    service: Service
    common: Common
    batches: Batches

    def __init__(
        self,
        settings: Pipeline,
        tools: Toolkit,
        router: Router,
        *,
        record: Callable[[Record], object],
        drain_s: float = 0.0,
        monitor: Monitor | None = None,
        lag: LagMeter | None = None,
        journal: Path | None = None,
    ) -> None:
        self.monitor = monitor or Monitor()
        self.in_doubt: list[Doubt] = []
        self._lag = lag
        self._set = settings
        self._tools = tools
        self._router = router
        self._record = record
        self._drain_s = drain_s
        self._journal = journal
        self._keeper: Keeper | None = None
        self._client = ChatClient(settings, tools.base_url, tools.api_key.reveal(), tools.ca_file)

    async def __aenter__(self) -> Self:
        self.common = common = Common(self._set)  # first: it may refuse its settings
        story = self._take_up()
        await self._client.__aenter__()
        self.service = Service(
            self._set,
            self._tools,
            self._router,
            self._client,
            common=common,
            record=self._record,
            journal=self._keeper,
            monitor=self.monitor,
        )
        self.service.take_over(story)
        self.batches = Batches(self.service, common.limits, self._keeper)
        first = story.request_number + 1
        self.app = Front(self.service, self.batches, self._metrics(), first).app()
        self._runner = web.AppRunner(
            self.app, handler_cancellation=True, access_log=None, shutdown_timeout=FAREWELL_S
        )
        self.batches.take_over(story)
        await self._runner.setup()
        if self._keeper is not None:
            self._keeper.story = Story()  # it has been taken over
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for site in list(self._runner.sites):
            await site.stop()  # who comes now finds the next process, or none
        await self.drain(self._drain_s)
        await self._runner.cleanup()
        await self._client.__aexit__(kind, error, traceback)
        await self.common.close()
        if self._keeper is not None:
            self._keeper.close()

    def protocol_factory(self) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection."""
        server = self._runner.server
        assert server is not None  # noqa: S101 - set up on entering
        return server()

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Take connections at an address, and return the port.

        Raises:
            OSError: the address cannot be had.
        """
        site = web.TCPSite(self._runner, host, port, backlog=BACKLOG, ssl_context=tls)
        await site.start()
        self.batches.go_on()  # not before: an address that cannot be had shall cost nothing
        return int(self._runner.addresses[0][1])

    async def drain(self, limit_s: float) -> int:
        """Let nothing more in and finish what is here; batches that are not done are stopped.

        Items that wait are not begun any more: with a journal they are the next service's.

        Returns:
            How many requests took too long, and were withdrawn.
        """
        self.service.draining = True
        self.batches.stop()
        late = await self.service.drain(limit_s)
        await self.batches.ended()
        return late

    def _metrics(self) -> Exposition:
        watched = Watched(
            self.service,
            self.batches,
            self._client,
            self.common,
            self._tools.purse,
            self.monitor,
            self._lag,
        )
        return Exposition(watched)

    def _take_up(self) -> Story:
        """What is in the journal, with the books and the purse told of it."""
        if self._journal is None:
            return Story()
        header = header_of(self._router.version, self._tools.prices, self._set.instructions)
        self._keeper = keeper = Keeper.take_up(self._journal, header)
        story, self.in_doubt = keeper.story, keeper.in_doubt
        replayed = Resumed(journal=keeper, until_s=story.end_s)
        self._tools = msgspec.structs.replace(self._tools, replayed=replayed)
        for one in story.spent.values():
            self._tools.purse.carry(
                user=one.user,
                session="",
                usd=one.usd,
                booked_usd=one.booked_usd,
                kind=one.kind,
                estimated=one.estimated,
                calls=one.calls,
            )
        return story
