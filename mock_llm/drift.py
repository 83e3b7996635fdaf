"""How slow the hour is."""

from mock_llm.config import Drift


def slowness(drift: Drift, since_s: float) -> float:
    """Return the factor at a time of the run: on the straight line between its two neighbours.

    Args:
        drift: the factors, evenly spaced over a period.
        since_s: seconds since the run began.
    """
    factors = drift.factors
    place = since_s % drift.period_s / drift.period_s * len(factors)
    before = int(place)
    low, high = factors[before % len(factors)], factors[(before + 1) % len(factors)]
    return low + (high - low) * (place - before)
