"""One of several processes that serve one mock; the hub starts it and tells it what to do."""

import asyncio
import socket
from collections.abc import Sequence

import msgspec

from mock_llm.behaviour import Provider
from mock_llm.config import Upstream
from mock_llm.control.access import Access
from mock_llm.control.commands import Command, Result, apply
from mock_llm.control.snapshot import snapshot_of
from mock_llm.control.watch import attended
from mock_llm.link import Link
from mock_llm.remote import SharedAdmission
from mock_llm.server import MockServer
from mock_llm.settings import Settings, calm_collector, loop_factory
from mock_llm.shared import SharedMemory
from mock_llm.slots import SERVED, SharedService

_decode_command = msgspec.msgpack.Decoder(Command).decode
_decode_result = msgspec.msgpack.Decoder(Result).decode
_decode_settings = msgspec.msgpack.Decoder(Settings).decode
_decode_upstream = msgspec.msgpack.Decoder(Upstream).decode


def main(link: int, memory: int, listeners: Sequence[int]) -> None:
    """Serve until the hub says stop, or is gone.

    Args:
        link: descriptor of this end of the pair.
        memory: of the shared memory.
        listeners: of the sockets to accept from.
    """
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_work(socket.socket(fileno=link), memory, listeners))


class Worker:
    """Answers what the hub asks; its server comes once the hub has said which."""

    def __init__(self) -> None:
        self.server: asyncio.Future[MockServer] = asyncio.get_running_loop().create_future()
        self.stopped = asyncio.Event()
        handlers = {
            "change": self._change,
            "command": self._command,
            "stop": self._stop,
            "hurry": self._hurry,
            SERVED: self._served,
        }
        self.link = Link(handlers)
        self.service = SharedService(self.link)

    async def _change(self, body: msgspec.Raw) -> None:
        (await self.server).change(_decode_upstream(body))

    async def _command(self, body: msgspec.Raw) -> Result:
        server, command = await self.server, _decode_command(body)
        return apply(server, command, asyncio.get_running_loop().time())

    def _served(self, body: msgspec.Raw) -> None:
        self.service.served(body)

    async def send(self, command: Command) -> Result:
        """Have a command carried out by all."""
        return _decode_result(await self.link.ask("command", command))

    def warn(self, line: str) -> None:
        """Have somebody read a line."""
        self.link.tell("warn", line)

    async def _hurry(self, _: msgspec.Raw) -> None:
        (await self.server).hurry()

    def _stop(self, _: msgspec.Raw) -> None:
        self.stopped.set()


async def _work(end: socket.socket, memory: int, listeners: Sequence[int]) -> None:
    worker = Worker()
    link = worker.link
    await link.connect(end)
    # From here on the hub tells every change; those that overtake the server wait for it.
    settings = _decode_settings(await link.ask("settings"))
    provider = Provider(
        settings.upstream,
        seed=settings.seed,
        answers=settings.answers,
        memory=SharedMemory(memory),
    )
    context = settings.context()
    server = settings.server(SharedAdmission(provider, link), worker.service.of)
    if settings.paused:
        server.pause()
    access = None
    if settings.token is not None:
        access = Access(settings.token, anywhere=settings.anywhere)
    async with attended(server, access, worker.warn, worker.send):
        for one in listeners:
            await server.start(sock=socket.socket(fileno=one), ssl=context)
        worker.server.set_result(server)
        calm_collector()
        link.tell("ready")
        stopped = asyncio.ensure_future(worker.stopped.wait())
        await asyncio.wait((stopped, link.closed), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        await server.close(settings.drain_s, settings.at_stop)
    link.tell("last", snapshot_of(server, asyncio.get_running_loop().time()))
    link.close()
