"""What each account has used, in bounded memory."""

from collections import OrderedDict

import msgspec


class Used(msgspec.Struct):
    """Sums over an account's attempts."""

    attempts: int = 0
    tokens: int = 0
    billed_usd: float = 0.0


class Accounts:
    """Sums by account; the one that was not seen for longest is forgotten first.

    Args:
        limit: so many are remembered.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._used: OrderedDict[str, Used] = OrderedDict()

    def add(self, account: str, tokens: int, billed_usd: float) -> None:
        """Count an attempt that has ended."""
        used = self._used.get(account)
        if used is None:
            used = self._used[account] = Used()
            if len(self._used) > self._limit:
                self._used.popitem(last=False)
        else:
            self._used.move_to_end(account)
        used.attempts += 1
        used.tokens += tokens
        used.billed_usd += billed_usd

    def used(self, account: str) -> Used:
        """Return an account's sums; zeros when it is not known."""
        return self._used.get(account) or Used()

    def __len__(self) -> int:
        return len(self._used)
