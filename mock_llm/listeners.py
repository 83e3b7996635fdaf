"""Sockets that several processes listen on, all at one address."""

import os
import socket
from contextlib import ExitStack

from mock_llm.errors import InputError
from mock_llm.server import BACKLOG


def listeners(host: str, port: int, groups: int) -> list[list[socket.socket]]:
    """Return that many groups of listening sockets; the kernel spreads connections over them.

    A group has one socket for each address of the host. They belong to whoever made them: a
    connection waits in its socket while the process that should accept it is started again.

    Args:
        host: name or address.
        port: 0 for any free one.
        groups: how many.

    Raises:
        OSError: the address cannot be had.
        InputError: this system cannot share a port.
    """
    if not (hasattr(socket, "SO_REUSEPORT") and hasattr(os, "memfd_create")):
        raise InputError("several workers need Linux (SO_REUSEPORT and memfd): use --workers 1")
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made: list[list[socket.socket]] = [[] for _ in range(groups)]
    with ExitStack() as cleanup:
        for family, address in dict.fromkeys((info[0], info[4]) for info in found):
            for group in made:
                one = socket.socket(family)
                cleanup.callback(one.close)
                # The first takes the address for itself, so that a stranger's is never shared.
                _listen(one, (address[0], port, *address[2:]), shared=group is not made[0])
                port = one.getsockname()[1]
                group.append(one)
        cleanup.pop_all()
    return made


def _listen(one: socket.socket, address: tuple[object, ...], *, shared: bool) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if one.family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if shared:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(address)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.setblocking(False)
    one.listen(BACKLOG)
