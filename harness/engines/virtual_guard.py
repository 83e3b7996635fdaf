"""What refuses synchronous clients on the virtual clock, before they block the run for ever.

In the loop's own thread, a blocking call waits for a server that only the waiting thread could run.
In another thread it stops the clock for ever, or leaves the process. Both are found where every
synchronous client must pass: where it looks up a host, connects a stream, or sleeps.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol

from harness.errors import InputError


class SynchronousClientError(InputError):
    """The code under test blocks; the virtual clock cannot run it, the wall clock can."""


class _Abandon(BaseException):
    """Takes a blocking call down; not an `Exception`, so that no client retries it in real time."""


class Clock(Protocol):
    """What the guards need of the virtual loop."""

    def time(self) -> float:
        """Return virtual seconds."""
        ...

    def give_up(self, error: Exception) -> None:
        """End the run with this error, from any thread."""
        ...

    def frozen(self) -> contextlib.AbstractContextManager[None]:
        """Hold the clock still."""
        ...


def blocking_calls(clock: Clock) -> Iterator[tuple[Any, str, object]]:
    """Yield (owner, name, guard) for the calls that every synchronous client must make.

    The caller's thread is taken for the loop's. Other event loops in other threads connect
    without blocking: they are none of this run's business, nor are Unix sockets there (pools of
    processes use them) and datagrams (logging does).
    """
    own_thread = threading.get_ident()
    look_up = socket.getaddrinfo

    def guard(original: Callable[..., Any]) -> Callable[..., Any]:
        def connect(sock: socket.socket, address: Any) -> Any:
            foreign = threading.get_ident() != own_thread
            harmless = sock.gettimeout() == 0 or sock.family == socket.AF_UNIX
            if sock.type == socket.SOCK_STREAM and not (foreign and harmless):
                sock.close()  # clients do so only for an `OSError`
                _refuse(clock, f"a blocking connection to {address} was opened")
            return original(sock, address)

        return connect

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == own_thread:
            _refuse(clock, f"a blocking look-up of {host} was made")
        return look_up(host, *args, **kwargs)

    yield socket.socket, "connect", guard(socket.socket.connect)
    yield socket.socket, "connect_ex", guard(socket.socket.connect_ex)
    yield socket, "getaddrinfo", getaddrinfo


def guarded_sleep(clock: Clock) -> Callable[[float], None]:
    """Return a `time.sleep` that is refused in the thread of the caller, the loop's."""
    own_thread = threading.get_ident()

    def sleep(seconds: float) -> None:
        if threading.get_ident() == own_thread:
            _refuse(clock, f"time.sleep({seconds:g}) was called in the event loop")
        time.sleep(seconds)

    return sleep


def _refuse(clock: Clock, what: str) -> NoReturn:
    message = (
        f"{what} on the virtual clock, which cannot run synchronous clients (requests, "
        "httpx.Client, openai.OpenAI ...): use their asynchronous forms, or `--engine live`"
    )
    clock.give_up(SynchronousClientError(message))
    raise _Abandon(message)
