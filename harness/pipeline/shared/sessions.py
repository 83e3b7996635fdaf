"""What users and sessions have asked and spent, over all processes that serve them.

Each process adds to tallies of its own, and writes them to Redis whole, never as a difference. So
to write one twice does no harm, what Redis lost comes back with the next request, and dollars are
whole nano-dollars that do not drift.
"""

import asyncio
import secrets
from collections import OrderedDict
from typing import Literal, Protocol

import msgspec

from harness.pipeline.shared.link import RedisLink

Kind = Literal["user", "session"]


class Account(msgspec.Struct, frozen=True, gc=False):
    """What one user or one session has had.

    Attributes:
        requests: how many.
        nano_usd: dollars, in billionths.
        idle_s: since the last of them; None if there was none.
    """

    requests: int = 0
    nano_usd: int = 0
    idle_s: float | None = None

    @property
    def usd(self) -> float:
        """Dollars."""
        return self.nano_usd / 1e9


class Sessions(Protocol):
    """Accounts of users and sessions."""

    async def add(self, user: str, session: str, usd: float) -> None:
        """Count a request and its dollars."""

    async def of_user(self, user: str) -> Account:
        """All of a user's sessions together."""

    async def of_session(self, session: str) -> Account:
        """One session."""


class _Tally:
    """One process's share of an account."""

    def __init__(self, serial: int) -> None:
        self.serial = serial
        self.requests = 0
        self.nano_usd = 0
        self.seen = 0.0

    def account(self, now: float) -> Account:
        return Account(self.requests, self.nano_usd, now - self.seen)


class MemorySessions:
    """The accounts of a single process; those unused for longest are forgotten."""

    def __init__(self, max_entries: int = 100_000) -> None:
        self._max_entries = max_entries
        self._tallies: OrderedDict[tuple[Kind, str], _Tally] = OrderedDict()
        self._serial = 0

    async def add(self, user: str, session: str, usd: float) -> None:
        """See `Sessions.add`."""
        self.count("user", user, usd)
        self.count("session", session, usd)

    def count(self, kind: Kind, name: str, usd: float) -> _Tally:
        """Add to one account."""
        tally = self._tallies.get((kind, name))
        if tally is None:
            self._serial += 1
            tally = self._tallies[kind, name] = _Tally(self._serial)
        self._tallies.move_to_end((kind, name))
        tally.requests += 1
        tally.nano_usd += round(usd * 1e9)
        tally.seen = asyncio.get_running_loop().time()
        if len(self._tallies) > self._max_entries:
            self._tallies.popitem(last=False)
        return tally

    def tally(self, kind: Kind, name: str) -> _Tally | None:
        """This process's share of an account, if it has one."""
        return self._tallies.get((kind, name))

    async def of_user(self, user: str) -> Account:
        """See `Sessions.of_user`."""
        return self._account("user", user)

    async def of_session(self, session: str) -> Account:
        """See `Sessions.of_session`."""
        return self._account("session", session)

    def _account(self, kind: Kind, name: str) -> Account:
        tally = self.tally(kind, name)
        return tally.account(asyncio.get_running_loop().time()) if tally else Account()


class RedisSessions:
    """Accounts over all processes: a hash each, with a field for every process's share.

    While Redis is away a process knows its own shares only.

    Args:
        link: to the Redis.
        keep_s: how long after its last request an account is forgotten.
        max_entries: accounts of which this process's own share is held in memory.
    """

    def __init__(
        self, link: RedisLink, keep_s: float = 30 * 86_400.0, max_entries: int = 100_000
    ) -> None:
        self._link = link
        self._keep_ms = round(keep_s * 1e3)
        self._own = MemorySessions(max_entries)
        self._process = secrets.token_hex(8)

    def _field(self, tally: _Tally) -> str:
        """A name that no other process's share has, nor one that was forgotten here."""
        return f"{self._process}.{tally.serial}"

    async def add(self, user: str, session: str, usd: float) -> None:
        """See `Sessions.add`."""
        named: tuple[tuple[Kind, str], ...] = (("user", user), ("session", session))
        commands: list[tuple[str | bytes | int, ...]] = []
        for kind, name in named:
            tally = self._own.count(kind, name, usd)
            key, share = self._link.key(kind, name), f"{tally.requests} {tally.nano_usd}"
            commands.append(("HSET", key, self._field(tally), share))
            commands.append(("PEXPIRE", key, self._keep_ms))
        await self._link.run(*commands)

    async def of_user(self, user: str) -> Account:
        """See `Sessions.of_user`."""
        return await self._account("user", user)

    async def of_session(self, session: str) -> Account:
        """See `Sessions.of_session`."""
        return await self._account("session", session)

    async def _account(self, kind: Kind, name: str) -> Account:
        """Others' shares as Redis has them, and one's own as it is."""
        key = self._link.key(kind, name)
        found = await self._link.run(("HGETALL", key), ("PTTL", key))
        tally = self._own.tally(kind, name)
        own = await (self._own.of_user(name) if kind == "user" else self._own.of_session(name))
        if found is None or not found[0]:
            return own
        flat, left_ms = found
        shares = dict(zip(flat[::2], flat[1::2], strict=True))
        if tally is not None:
            shares.pop(self._field(tally).encode(), None)
        requests, nano_usd = own.requests, own.nano_usd
        for share in shares.values():
            more, usd = share.split()
            requests, nano_usd = requests + int(more), nano_usd + int(usd)
        idle_s = (self._keep_ms - left_ms) / 1e3
        return Account(
            requests, nano_usd, idle_s if own.idle_s is None else min(idle_s, own.idle_s)
        )
