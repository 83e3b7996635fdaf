"""What users and their sessions have asked and spent, and quotas over all processes.

The purse holds every cap exactly, within one process. Where several share a Redis, what the others
have spent counts as well: it is looked up at the door, so that together they may pass a quota by
what is in flight at that moment.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from harness.pipeline.common import Common
from harness.pipeline.service.tickets import Ask
from harness.pipeline.shared import Account
from harness.records import Record
from harness.scenario.pipeline import Pipeline
from harness.scenario.resilience import Budget


class Accounts:
    """The accounts of one service.

    Args:
        settings: for the quotas.
        common: where the accounts are, and whether others share them.
    """

    def __init__(self, settings: Pipeline, common: Common) -> None:
        self._sessions = common.sessions
        self._quotas = settings.budget or Budget()
        self._shared = common.link is not None
        self._under_way: set[asyncio.Task[None]] = set()

    async def note(self, ask: Ask, rows: Sequence[Record]) -> None:
        """Count a request, and what its attempts have cost; nobody waits for a Redis here."""
        usd = sum(row.cost_usd for row in rows)
        adding: Coroutine[Any, Any, None] = self._sessions.add(
            ask.user, _session(ask.user, ask.session), usd
        )
        if not self._shared:
            await adding
            return
        task = asyncio.create_task(adding)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Wait until all is counted."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def is_spent(self, ask: Ask) -> bool:
        """Whether all processes together have spent what this user or session may."""
        if not self._shared:
            return False
        quotas = self._quotas
        if quotas.user_usd is not None:
            account = await self._sessions.of_user(ask.user)
            if account.usd >= quotas.user_usd:
                return True
        if quotas.session_usd is None or not ask.session:
            return False
        account = await self._sessions.of_session(_session(ask.user, ask.session))
        return account.usd >= quotas.session_usd

    async def told(self, user: str, session: str) -> dict[str, Any]:
        """A user's account, and that of one of its sessions."""
        of_session = await self._sessions.of_session(_session(user, session))
        return {
            "user": user,
            "session": session,
            "of_user": _told(await self._sessions.of_user(user), self._quotas.user_usd),
            "of_session": _told(of_session, self._quotas.session_usd),
        }


def _session(user: str, session: str) -> str:
    """Two users may call their sessions the same."""
    return f"{user}/{session}"


def _told(account: Account, quota_usd: float | None) -> dict[str, Any]:
    return {
        "requests": account.requests,
        "cost_usd": account.usd,
        "quota_usd": quota_usd,
        "idle_s": account.idle_s,
    }
