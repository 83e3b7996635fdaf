"""Where a falling function passes zero."""

from collections.abc import Callable


def above_zero(falls: Callable[[float], float], guess: float) -> float:
    """The t >= 0 at which a function that falls for ever becomes 0; 0 where it begins below.

    Args:
        falls: continuous and falling, below 0 in the end.
        guess: of the size of t, above 0.
    """
    from scipy.optimize import brentq

    if falls(0.0) <= 0:
        return 0.0
    high = guess
    while falls(high) > 0:
        high *= 2
    return float(brentq(falls, 0.0, high, xtol=1e-12 * high, rtol=1e-13))
