"""The one door to Redis: bounded in time, and never in the way when Redis is not there."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from harness.errors import InputError
from harness.pipeline.retry import backoff_s
from harness.scenario.pipeline import Backoff

if TYPE_CHECKING:
    from redis.asyncio import Connection

T = TypeVar("T")
Command = Sequence[str | bytes | int]

PAUSES = Backoff(base_s=0.1, factor=2.0, cap_s=5.0, jitter=None)
CONNECTIONS = 16  # more would only wait in Redis, which has one thread, instead of here


class RedisLink:
    """Commands to a Redis that several processes share; None for an answer while it is away.

    What fails, or takes longer than `timeout_s`, marks Redis as away, and from then on nobody waits
    for it. A task of the link's own asks whether it is back: after 0.1 s, then twice as long each
    time, up to 5 s. So no request ever waits longer than the bound, and that only when Redis goes.

    A connection has one user at a time, and is closed when that one is cancelled with an answer
    still to come, so that nobody reads another's.

    Attributes:
        up: whether Redis answered last time; True before the first.
        errors: commands that failed or took too long.
        outages: how often Redis has come back.

    Raises:
        InputError: the address is none, would switch certificate checks off, or `redis` is missing.
    """

    def __init__(self, url: str, *, prefix: str = "flight:", timeout_s: float = 0.1) -> None:
        self.up = True
        self.errors = 0
        self.outages = 0
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._connection = _connector(url)
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._probe: asyncio.Task[None] | None = None

    def key(self, *parts: str) -> bytes:
        """A key among those of this project; whatever a header may hold can be part of one."""
        return (self._prefix + ":".join(parts)).encode(errors="backslashreplace")

    async def run(self, *commands: Command) -> list[Any] | None:
        """Send commands together; their answers as they come over the wire, or None."""
        return await self._guarded(lambda: self._send(commands)) if self.up else None

    async def script(self, sha: str, lua: str, keys: Sequence[bytes], *args: int) -> Any:
        """Run a script that Redis may hold already; its answer, or None."""
        rest: Command = (len(keys), *keys, *args)

        async def once() -> Any:
            from redis.exceptions import NoScriptError

            try:
                return (await self._send([("EVALSHA", sha, *rest)]))[0]
            except NoScriptError:
                return (await self._send([("EVAL", lua, *rest)]))[0]

        return await self._guarded(once) if self.up else None

    async def close(self) -> None:
        """Close the connections; to be called once, when nothing is under way."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait([self._probe])
        await self._drop_idle()

    def statistics(self) -> dict[str, int]:
        """Whether Redis is there, and how often it was not."""
        return {
            "redis_up": int(self.up),
            "redis_errors": self.errors,
            "redis_outages": self.outages + (not self.up),
        }

    async def _guarded(self, call: Callable[[], Awaitable[T]]) -> T | None:
        from redis.exceptions import RedisError

        outages = self.outages
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call()
        except (RedisError, OSError, TimeoutError):
            self.errors += 1
            # What was sent before the last outage says nothing of now.
            if self.up and outages == self.outages:
                self.up = False
                self._probe = asyncio.create_task(self._until_back())
            return None

    async def _until_back(self) -> None:
        await self._drop_idle()
        for failures in count(1):
            await asyncio.sleep(backoff_s(PAUSES, failures, None, 1.0))
            if await self._guarded(lambda: self._send([("PING",)])) is not None:
                break
        self.outages += 1
        self.up = True

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        async with self._free:
            one = self._idle.pop() if self._idle else self._connection()
            try:
                if one.is_connected and await one.can_read():
                    await one.disconnect(nowait=True)  # closed by the other end while it was idle
                await one.connect()  # type: ignore[no-untyped-call]
                await one.send_packed_command(one.pack_commands(commands))
                replies = [await one.read_response() for _ in commands]
            except BaseException:
                await one.disconnect(nowait=True)
                raise
            self._idle.append(one)
            return replies

    async def _drop_idle(self) -> None:
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)


def _connector(url: str) -> "Callable[[], Connection]":
    """Check an address; what makes connections to it."""
    try:
        from redis.asyncio import ConnectionPool
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        msg = (
            "pipeline.redis_url needs the redis package: pip install 'llm-flight-simulator[redis]'"
        )
        raise InputError(msg) from None
    if "ssl_" in url.partition("?")[2]:
        msg = "pipeline.redis_url: ssl_ options are not taken: certificates are always verified"
        raise InputError(msg)
    try:
        pool = ConnectionPool.from_url(
            url,
            protocol=2,
            driver_info=None,
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
        )
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError) as error:
        msg = f"pipeline.redis_url: {error}; it looks like redis://127.0.0.1:6379/0"
        raise InputError(msg) from None
    return pool.make_connection
