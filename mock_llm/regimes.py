"""Good and bad times in turn: a function of the seed and of the time since the run began."""

from bisect import bisect_right
from math import log1p

from mock_llm.config import Regime
from mock_llm.faults.base import Times
from mock_llm.rng import Keyed


class Regimes:
    """The regimes of a run; see `mock_llm.config.Regime`.

    Theory of operation. The lengths are exponential, number n drawn by the keyed uniform n of the
    stream `regime`, so that nobody's asking changes them. Their ends are summed up as far as anyone
    has looked, and found again by bisection.
    """

    def __init__(self, config: Regime, weather: Keyed) -> None:
        self._means_s = (config.good_s, config.bad_s)
        self._uniform = weather.stream("regime")
        self._ends_s: list[float] = []

    def at(self, since_s: float) -> Times:
        """Return the regime at a time of the run, seconds since it began."""
        ends = self._ends_s
        while not ends or ends[-1] <= since_s:
            n = len(ends)
            length_s = -self._means_s[n % 2] * log1p(-self._uniform("", n))
            ends.append((ends[-1] if ends else 0.0) + length_s)
        return "bad" if bisect_right(ends, since_s) % 2 else "good"
