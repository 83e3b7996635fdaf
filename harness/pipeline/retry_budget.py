"""A budget of retries, so that they cannot multiply the load on a provider that fails.

Without one, three retries make four calls of each as soon as all fail, and the load that they add
keeps them failing after its cause is gone; jitter only spreads it (Bronson et al., "Metastable
failures in distributed systems", HotOS 2021).
"""

from harness.pipeline.moments import BUCKETS, RecentCount
from harness.scenario.resilience import RetryBudget

_ROUNDING = 1e-9  # 0.29 times 100 is a little less than 29


class RetryBudgetMeter:
    """Retries are a share of the first attempts of late, plus some that are free.

    Finagle's RetryBudget: 20 % and 10 a second, over 10 s. At every retry that is let through, the
    retries of the last `window_s`, this one included, are at most `share` times the first attempts
    of the last `window_s`, plus `per_s` times `window_s`. That is exact: retries are remembered a
    hundredth of the window longer, and first attempts not a moment, so that a steady client may
    get 2 % less than its share.
    """

    def __init__(self, settings: RetryBudget) -> None:
        self._set = settings
        self._free = settings.per_s * settings.window_s
        self._firsts = RecentCount(settings.window_s)
        self._retries = RecentCount(settings.window_s, BUCKETS + 1)

    def deposit(self, now: float) -> None:
        """A first attempt is sent."""
        self._firsts.add(now)

    def left(self, now: float) -> float:
        """Return how many retries may be sent now."""
        allowed = self._set.share * self._firsts.total(now) + self._free
        return allowed - self._retries.total(now)

    def withdraw(self, now: float) -> bool:
        """Whether a retry may be sent; if so, it is counted."""
        if self.left(now) + _ROUNDING < 1:
            return False
        self._retries.add(now)
        return True
