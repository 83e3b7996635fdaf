"""The network of the virtual clock: every connection stays inside the process.

A client that connects to a routed address gets one end of an AF_UNIX socket pair and the server
gets the other. The kernel delivers what is sent on it within the call, so it is readable at the
very next poll. Loopback TCP promises no such thing: under load it delivers late, and a clock that
jumps in the meantime turns that into time-outs that never happened.

There is no listener, no path in the file system and no backlog to overflow. Whatever would reach
beyond the process (another host, a listening socket, a datagram, a Unix path, a subprocess) is
refused: its answer takes real time, and the virtual clock would jump past it.
"""

import asyncio
import errno
import itertools
import socket
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

Address = tuple[str, int]
ProtocolFactory = Callable[[], asyncio.BaseProtocol]
P = TypeVar("P", bound=asyncio.BaseProtocol)

FIRST_EPHEMERAL_PORT = 49_152  # RFC 6335, section 6
WAY_OUT = "nothing leaves the process on the virtual clock; use `--engine live` or `--engine real`"


class OutsideError(ConnectionRefusedError):
    """Something outside the process was asked for; run it with `--engine live` or `real`."""


def _outside(what: str) -> OutsideError:
    return OutsideError(errno.ECONNREFUSED, f"{what}: {WAY_OUT}")


class Wire(socket.socket):
    """One end of a connection inside the process, passing for a loopback TCP socket.

    Clients set TCP options on their sockets and servers ask who called; AF_UNIX knows neither.
    """

    __slots__ = ("_here", "_there")

    def __init__(self, end: socket.socket, here: Address, there: Address) -> None:
        super().__init__(end.family, end.type, end.proto, fileno=end.detach())
        self._here = here
        self._there = there

    def setsockopt(self, level: int, *option: Any) -> None:
        """Set a socket option; those of TCP mean nothing here and are ignored."""
        if level != socket.IPPROTO_TCP:
            super().setsockopt(level, *option)

    def getsockname(self) -> Address:
        """Return the address of this end."""
        return self._here

    def getpeername(self) -> Address:
        """Return the address of the other end."""
        return self._there


class InProcessLoop(asyncio.SelectorEventLoop):
    """An event loop on which clients reach the servers registered with `route`, and nothing else.

    Attributes:
        refused: addresses outside the process that something tried to reach.
        look_up_fails: asked at every look-up of a name; None: they all succeed.
    """

    def __init__(self, selector: Any = None) -> None:
        super().__init__(selector)
        self.refused: set[Address] = set()
        self.look_up_fails: Callable[[], bool] | None = None
        self._routes: dict[Address, ProtocolFactory] = {}
        self._ports = itertools.count(FIRST_EPHEMERAL_PORT)
        self._dialled: weakref.WeakKeyDictionary[socket.socket, Address] = (
            weakref.WeakKeyDictionary()
        )

    def route(self, host: str, port: int, protocol_factory: ProtocolFactory) -> None:
        """Let clients reach a server at `host:port`; `localhost` is 127.0.0.1.

        Args:
            host: a name or an IP address; a name needs no entry in any DNS.
            port: as in the clients' URLs.
            protocol_factory: makes the server's protocol for each connection, as in
                `loop.create_server`; an `aiohttp.web.Server` is one.
        """
        self._routes[_address(host, port)] = protocol_factory

    def _lookup(self, address: Address) -> ProtocolFactory:
        factory = self._routes.get(address)
        if factory is None:
            self.refused.add(address)
            raise _outside(f"cannot connect to {address[0]}:{address[1]}")
        return factory

    async def _dial(self, address: Address) -> socket.socket:
        """Connect: the server's end is up before the client's is handed over."""
        factory = self._lookup(address)
        caller = ("127.0.0.1", next(self._ports))
        near, far = socket.socketpair(socket.AF_UNIX)
        near, far = Wire(near, caller, address), Wire(far, address, caller)
        try:
            _, server = await self.connect_accepted_socket(factory, far)
        except BaseException:
            near.close()
            far.close()
            raise
        if getattr(server, "handshake_hangs", False):
            try:
                await self.create_future()
            finally:
                near.close()
        return near

    async def create_connection(
        self,
        protocol_factory: Callable[[], P],
        host: str | None = None,
        port: int | None = None,
        *,
        sock: socket.socket | None = None,
        **options: Any,
    ) -> tuple[asyncio.Transport, P]:
        """Connect to a routed server; options other than TLS's have no meaning here.

        Args:
            protocol_factory: as in asyncio.
            host: the form of httpx, anyio and asyncio streams.
            port: with `host`.
            sock: the form of aiohttp >= 3.10, which calls `sock_connect` first: the socket is
                closed, and an end of a socket pair takes its place.
            options: as in asyncio.

        Raises:
            OutsideError: nothing is routed at that address.
        """
        tls = {k: v for k, v in options.items() if k.startswith(("ssl", "server_hostname"))}
        if sock is None:
            if tls.get("ssl") and not tls.get("server_hostname"):
                tls["server_hostname"] = host
            sock = await self._dial(_address(host, port))
        elif sock in self._dialled:
            dialled = self._dialled.pop(sock)
            sock.close()
            sock = await self._dial(dialled)
        return await super().create_connection(protocol_factory, sock=sock, **tls)

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Note where the socket is to go; `create_connection(sock=...)` makes the connection.

        Raises:
            OutsideError: nothing is routed at that address, or it is a Unix path.
        """
        if not isinstance(address, tuple):
            await self._refuse("sock_connect", address)
        target = _address(*address[:2])
        self._lookup(target)
        self._dialled[sock] = target

    async def getaddrinfo(  # type: ignore[override]
        self, host: str | bytes | None, port: str | int | None, **_: Any
    ) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, Address]]:
        """Resolve a routed host at once, to itself: no thread, no DNS.

        Raises:
            OutsideError: the host is none of the run's.
            gaierror: it is a name, and a fault strikes its look-up.
        """
        name, number = _address(host, port)
        if self.look_up_fails is not None and name[-1].isalpha() and self.look_up_fails():
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        if name != "127.0.0.1" and all(name != routed for routed, _ in self._routes):
            self.refused.add((name, number))
            raise _outside(f"cannot look up {name}")
        tcp = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        return [(*tcp, "", (name, number))]

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:  # noqa: ARG002 - asyncio's signature
        """Return the address as it is, as text: no thread, no DNS."""
        return str(sockaddr[0]), str(sockaddr[1])

    async def _refuse(self, *args: Any, **_: Any) -> NoReturn:
        raise _outside(f"cannot serve, send datagrams or start a process {args[:2]!r}")

    create_server = _refuse
    create_unix_server = _refuse
    create_unix_connection = _refuse
    create_datagram_endpoint = _refuse
    subprocess_exec = _refuse
    subprocess_shell = _refuse


def _address(host: str | bytes | None, port: str | int | None) -> Address:
    name = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    return "127.0.0.1" if name.lower() == "localhost" else name.lower(), int(port or 0)
