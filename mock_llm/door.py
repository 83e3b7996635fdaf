"""Connections before HTTP: the handshake of TLS, and those that never get so far."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from mock_llm.errors import InputError
from mock_llm.ledger import End, Ledger, Row

_RETRY_S = 1.0


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Make a server's TLS context of two PEM files.

    Raises:
        InputError: one cannot be read or is no PEM, or the key is not the certificate's.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        for file in (certificate, key):
            file.open("rb").close()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        why = getattr(error, "reason", None) or str(error)
        told = "the key is not this certificate's" if "MISMATCH" in why else f"not PEM ({why})"
        raise InputError(f"--tls-cert {certificate}, --tls-key {key}: {told}") from error
    return context


def _no_password() -> str:
    raise ValueError("the key wants a password; give one without")


class Stalled(asyncio.Protocol):
    """A connection on which nothing is ever said; only the client ends it.

    Attributes:
        handshake_hangs: for a network that knows: its client never gets past connecting.
    """

    handshake_hangs = True

    def __init__(self, ledger: Ledger, fault: str, stalled: "set[Stalled]") -> None:
        self._ledger, self._stalled = ledger, stalled
        self._clock = asyncio.get_running_loop().time
        self._row = Row(arrived_s=self._clock(), new_connection=True, injected=(fault,))
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept it, and that is all."""
        self._transport = transport
        self._stalled.add(self)
        self._ledger.begin()
        self._ledger.fire(self._row)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Note that the client gave up."""
        if self in self._stalled:
            self._end("client_left")

    def abort(self) -> None:
        """End it, for the server stops."""
        self._end("shutdown")
        if self._transport is not None:
            self._transport.close()

    def _end(self, ended: End) -> None:
        self._stalled.discard(self)
        self._row.ended, self._row.ended_s = ended, self._clock()
        self._ledger.add(self._row)


def listening(host: str, port: int, backlog: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=backlog)


class TlsListener:
    """Accepts connections of TLS itself, to decide about each one before its handshake.

    Args:
        context: of the server.
        stall: the protocol of the next connection if a fault strikes it, else None.
        inside: makes the protocol that speaks in a sound one.
        limit_s: on a handshake.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        stall: Callable[[], Stalled | None],
        inside: Callable[[], asyncio.Protocol],
        limit_s: float,
    ) -> None:
        self._context, self._stall, self._inside, self._limit_s = context, stall, inside, limit_s
        self._socket: socket.socket | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    def listen(self, listener: socket.socket) -> int:
        """Accept from a socket that listens, and return its port."""
        listener.setblocking(False)
        self._socket = listener
        self._begin(self._accept(listener))
        return int(listener.getsockname()[1])

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:  # too many open files; asyncio's own servers wait as long
                await asyncio.sleep(_RETRY_S)
            else:
                self._begin(self._welcome(client))

    async def _welcome(self, client: socket.socket) -> None:
        accept = asyncio.get_running_loop().connect_accepted_socket
        stalled = self._stall()
        try:
            if stalled is not None:
                await accept(lambda: stalled, client)
            else:
                limit_s = self._limit_s
                await accept(self._inside, client, ssl=self._context, ssl_handshake_timeout=limit_s)
        except OSError:  # no TLS, an older one, too slow, or a client that does not trust us
            client.close()

    async def close(self) -> None:
        """Stop listening, and end the handshakes that go on."""
        while self.tasks:
            for task in self.tasks:
                task.cancel()
            await asyncio.wait(self.tasks)
        if self._socket is not None:
            self._socket.close()
