"""Connections before HTTP: the handshake of TLS, and those that never get so far."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

from mock_llm.errors import InputError
from mock_llm.ledger import End, Ledger, Row


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


class Doorman(asyncio.Protocol):
    """Shakes hands with a client of TLS, then hands the connection on.

    asyncio could do it unseen, but then nobody could decide about a connection before its
    handshake. What comes together with the handshake's end is kept for the protocol behind.

    Args:
        context: of the server.
        inside: makes the protocol that speaks in the connection.
        limit_s: on the handshake.
        shaking: has the tasks of all handshakes that go on.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        inside: Callable[[], asyncio.Protocol],
        limit_s: float,
        shaking: set[asyncio.Task[None]],
    ) -> None:
        self._context, self._inside, self._limit_s = context, inside, limit_s
        self._shaking = shaking
        self._early = b""
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake; until it reads, nothing may be read."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream is one
        transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._shake_hands(transport))
        self._shaking.add(task)
        task.add_done_callback(self._shaking.discard)

    def data_received(self, data: bytes) -> None:
        """Keep what comes before there is anybody to have it."""
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Note that there is nobody to hand on."""
        self._lost = True

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                transport,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._limit_s,
            )
        except OSError:  # no TLS, an older one, or a client that does not trust us
            return
        if secured is None or self._lost:
            return
        inside = self._inside()
        secured.set_protocol(inside)
        inside.connection_made(secured)
        if self._early:
            inside.data_received(self._early)
