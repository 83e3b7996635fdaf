"""Several processes that serve as one: the hub starts them, admits for them, and ends with them.

Theory of operation. The hub makes the listening sockets, one for each worker, and shared memory for
the counts of keyed weather; workers inherit both. What needs a memory beyond these is decided here,
by the one provider that remembers. A message to all reaches a worker in its turn: whoever asked for
a change has its answer once the change is in force everywhere. A worker that dies is started again,
with the settings of that moment; its counts were never its own. A worker whose hub dies sees its
link end, and ends too.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from itertools import chain

import msgspec

from mock_llm import worker
from mock_llm.behaviour import Provider
from mock_llm.board import Board
from mock_llm.config import Upstream
from mock_llm.control.commands import Command, Journal, Look, Reset, Result, apply
from mock_llm.control.snapshot import merge
from mock_llm.control.watch import Tell
from mock_llm.link import Handler, Link
from mock_llm.remote import ADMIT, FINISH, HubAdmission
from mock_llm.settings import Settings
from mock_llm.shared import SharedMemory
from mock_llm.slots import ENTER, LEAVE, HubSlots

_SHORT_LIFE_S = 10.0
_SHORT_LIVES = 3
_STOP_S = 20.0

_decode_command = msgspec.msgpack.Decoder(Command).decode
_decode_result = msgspec.msgpack.Decoder(Result).decode


class Hub:
    """Runs the workers of one mock.

    Args:
        settings: of the mock.
        listeners: the sockets of each worker; there are as many workers.
        tell: gets the warnings and the summary.
        ready: called once, when every worker accepts connections.

    Attributes:
        links: to the workers that run, by their number from 0.
        pids: their processes.

    Raises:
        InputError: see `Settings.server`.
    """

    def __init__(
        self,
        settings: Settings,
        listeners: list[list[socket.socket]],
        tell: Tell,
        ready: Callable[[], None],
    ) -> None:
        self._settings, self._listeners, self._ready = settings, listeners, ready
        self._board = Board(tell)
        memory = SharedMemory()
        provider = Provider(
            settings.upstream, seed=settings.seed, answers=settings.answers, memory=memory
        )
        self._memory = memory.file
        # Never listens: it is changed as the workers' are, and finds out that a ledger cannot be.
        self._server = settings.server(provider)
        self.links: dict[int, Link] = {}
        self.pids: dict[int, int] = {}
        self._starting = set(range(len(listeners)))
        self._stop = asyncio.Event()
        self._failed = False
        self._handlers: dict[str, Handler] = {
            "command": lambda body: self.command(_decode_command(body)),
            "warn": self._board.warn,
            "last": self._board.last,
            "settings": self._settings_now,
        }
        self._admission = HubAdmission(provider)
        self._slots = HubSlots(settings.upstream.capacity, self.links)

    async def run(self) -> bool:
        """Run until told to stop; return whether all went well."""
        lives = [asyncio.create_task(self._keep(number)) for number in range(len(self._listeners))]
        for life in lives:
            life.add_done_callback(lambda _: self._stop.set())
        await self._stop.wait()
        for one in chain(*self._listeners):
            one.close()
        for link in self.links.values():
            link.tell("stop")
        await asyncio.gather(*lives)
        await self._server.close()
        self._board.sum_up()
        os.close(self._memory)
        return not self._failed

    def stop(self) -> None:
        """Let every worker end what it does, and `run` return; a second time, at once."""
        if self._stop.is_set():
            for link in self.links.values():
                link.tell("hurry")
        self._stop.set()

    async def change(self, upstream: Upstream) -> None:
        """Imitate another provider; when this returns, every worker does."""
        self._server.change(upstream)
        await self._put_in_force("change", upstream)

    async def command(self, command: Command) -> Result:
        """Have all workers do what a command says; reading adds up what they show."""
        if isinstance(command, Look):
            seen = await self._results(command)
            return Result(snapshot=merge([one.snapshot for one in seen if one.snapshot]))
        if isinstance(command, Journal):
            return await self._board.journal(command, self.links)
        result = apply(self._server, command, asyncio.get_running_loop().time())
        if not result.error:
            await self._put_in_force("command", command)
            if isinstance(command, Reset):
                self._board.reset()
        return result

    async def _put_in_force(self, name: str, message: object) -> None:
        """Have the slots and all workers follow what the hub's own server has become."""
        capacity = self._server.upstream.capacity
        self._slots.change(capacity, asyncio.get_running_loop().time())
        await self.broadcast(name, message)

    async def _results(self, command: Command) -> list[Result]:
        return [_decode_result(one) for one in await self.broadcast("command", command)]

    async def broadcast(self, name: str, message: object = None) -> list[msgspec.Raw]:
        """Ask all workers at once; return their answers.

        One that dies instead of answering has none; its successor starts with what holds then.

        Raises:
            LinkError: a worker could not answer.
        """
        asked = [link.ask(name, message) for link in self.links.values()]
        if asked:
            await asyncio.wait(asked)
        return [one.result() for one in asked if not one.cancelled()]

    def _settings_now(self, _: msgspec.Raw) -> Settings:
        server = self._server
        return msgspec.structs.replace(
            self._settings, upstream=server.upstream, seed=server.seed, paused=server.paused
        )

    def _accepts(self, number: int, _: msgspec.Raw) -> None:
        if self._starting:
            self._starting.discard(number)
            if not self._starting:
                self._ready()

    async def _keep(self, number: int) -> None:
        """Let a worker live, again and again, until the mock stops or it dies too often."""
        loop, short_lives = asyncio.get_running_loop(), 0
        while short_lives < _SHORT_LIVES:
            began = loop.time()
            code = await self._live(number)
            if self._stop.is_set():
                return
            short_lives = short_lives + 1 if loop.time() - began < _SHORT_LIFE_S else 0
            how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            again = short_lives < _SHORT_LIVES
            what = "it is started again" if again else "once too often, so the mock ends"
            sys.stderr.write(f"mock_llm: worker {number} died ({how}): {what}\n")
        self._failed = True

    async def _live(self, number: int) -> int:
        """Start a worker and wait for its end; return its exit code, negative for a signal."""
        ours, theirs = socket.socketpair()
        link = Link(
            {
                **self._handlers,
                "ready": partial(self._accepts, number),
                ADMIT: partial(self._admission.admit, number),
                FINISH: partial(self._admission.finish, number),
                ENTER: partial(self._slots.enter, number),
                LEAVE: partial(self._slots.leave, number),
            }
        )
        with theirs:
            await link.connect(ours)
            self.links[number] = link
            process = await self._spawn(number, theirs.fileno())
        self.pids[number] = process.pid
        code = await self._ended(process)
        await link.closed  # the last it said is read by then
        del self.links[number], self.pids[number]
        self._admission.bury(number)
        self._board.bury(number)
        self._slots.bury(number, asyncio.get_running_loop().time())
        link.close()
        return code

    async def _spawn(self, number: int, link: int) -> asyncio.subprocess.Process:
        sockets = [one.fileno() for one in self._listeners[number]]
        # The path goes along, so that the worker finds the same code, however this one did.
        code = f"import sys; sys.path[:] = {sys.path!r}; from {worker.__name__} import main; "
        code += f"main({link}, {self._memory}, {sockets})"
        inherited = (link, self._memory, *sockets)
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            pass_fds=inherited,
            start_new_session=True,  # a terminal's Ctrl-C is for the hub to understand
        )

    async def _ended(self, process: asyncio.subprocess.Process) -> int:
        stopped, ended = map(asyncio.ensure_future, (self._stop.wait(), process.wait()))
        await asyncio.wait((stopped, ended), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not (await asyncio.wait((ended,), timeout=self._settings.drain_s + _STOP_S))[0]:
            process.kill()
        return int(await ended)
