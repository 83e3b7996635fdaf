"""The mock on the virtual clock, with clients that speak bytes."""

import asyncio
from collections.abc import Awaitable, Callable

from loopback import Mock

from harness.engines.virtual_loop import VirtualLoop, run_virtual
from mock_llm.config import Upstream
from mock_llm.server import MockServer

PORT = 8000


def run(
    upstream: Upstream, test: Callable[[Mock], Awaitable[None]], *, transit: bool = False
) -> None:
    """Run a test against a server; at the end nobody may be left at the provider."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        running = Mock(MockServer(upstream, transit=transit))
        running.port = PORT
        loop.route("127.0.0.1", PORT, running.server.protocol_factory)
        try:
            await test(running)
        finally:
            service = running.server._player.service
            await running.server.close()
            for client in running.clients:
                client.writer.close()
        if service is not None:
            assert (service.station.serving, service.station.waiting) == (0, 0)

    run_virtual(main())
