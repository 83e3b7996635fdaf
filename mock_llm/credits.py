"""The account's credits: spent, reserved by what is in flight, and left.

Theory of operation. OpenRouter reserves the greatest cost that a request can have, its prompt and
the cap on its completion, against the balance until it has ended (its documentation of the
in-flight budget). So many requests at once can use up a balance of which hardly anything is spent:
a 402 that passes. Sums are whole numbers of 1e-12 dollars, so that what is reserved is given
back exactly.
"""

from math import ceil
from typing import Literal

_PER_USD = 10**12


class Credits:
    """The balance of an account.

    Attributes:
        limited: there is a balance at all.
    """

    def __init__(self) -> None:
        self.limited = False
        self._bought = self._spent = self._reserved = 0

    def change(self, credits_usd: float | None) -> None:
        """Have another balance; what is spent and reserved stays so."""
        self.limited = credits_usd is not None
        self._bought = round((credits_usd or 0.0) * _PER_USD)

    def covers(self, usd: float) -> Literal["yes", "later", "no"]:
        """Whether a reservation is covered: now, or when what is in flight has ended, or never."""
        left = self._bought - self._spent - _cost(usd)
        if left >= self._reserved:
            return "yes"
        return "later" if left >= 0 else "no"

    def reserve(self, usd: float) -> int:
        """Reserve dollars; returns what `settle` gives back."""
        reserved = _cost(usd)
        self._reserved += reserved
        return reserved

    def settle(self, reserved: int, billed_usd: float) -> None:
        """Give a reservation back, and take what was really billed."""
        self._reserved -= reserved
        self._spent += round(billed_usd * _PER_USD)

    @property
    def bought_usd(self) -> float:
        """The balance that it began with."""
        return self._bought / _PER_USD

    @property
    def spent_usd(self) -> float:
        """What ended attempts were billed, while there was a balance."""
        return self._spent / _PER_USD

    @property
    def reserved_usd(self) -> float:
        """What attempts under way have reserved."""
        return self._reserved / _PER_USD


def _cost(usd: float) -> int:
    return ceil(usd * _PER_USD)
