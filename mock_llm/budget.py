"""What a recording may cost: real endpoints take real money."""


class Budget:
    """Counts calls and dollars, and says when it is enough.

    Calls are counted when they begin, so that there are never too many. Dollars are known when an
    answer has ended, so that those under way then can go past the limit. An answer cut short may
    cost something too: it counts as the dearest so far.

    Args:
        max_requests: calls that may be passed on; None: any number.
        max_usd: dollars that answers may have cost; None: any sum.

    Attributes:
        requests: passed on so far.
        usd: spent so far.
    """

    def __init__(self, max_requests: int | None = None, max_usd: float | None = None) -> None:
        self.requests, self.usd = 0, 0.0
        self._max_requests, self._max_usd = max_requests, max_usd
        self._dearest = 0.0
        self._blind = False

    def refusal(self) -> str:
        """Why no further call may be passed on, or ""."""
        if self._max_requests is not None and self.requests >= self._max_requests:
            return f"{self.requests} of {self._max_requests} requests are used (--max-requests)"
        if self._max_usd is None:
            return ""
        if self.usd >= self._max_usd:
            return f"${self.usd:.6f} of ${self._max_usd:g} are spent (--max-usd)"
        if self._blind:
            return "an answer had no usage.cost, so --max-usd cannot hold; use --max-requests"
        return ""

    def begin(self) -> None:
        """Count a call."""
        self.requests += 1

    def end(self, usd: float | None, *, whole: bool) -> None:
        """Count what it cost.

        Args:
            usd: as the answer says; None when it does not.
            whole: the answer came to its end, so that it should have said.
        """
        if usd is None and whole:
            self._blind = True
        self.usd += self._dearest if usd is None else usd
        self._dearest = max(self._dearest, usd or 0.0)
