"""Shapes: the knee of a capacity curve, and the frontier of what cannot be bettered. Pure."""

from collections.abc import Sequence
from math import isclose

Dot = tuple[float, float]
STRAIGHT = 0.1


def knee(dots: Sequence[Dot]) -> float | None:
    """Where a curve bends the most: the point furthest from the chord of its ends, across it.

    Both axes are scaled to 0-1 first (Satopää et al., Finding a "kneedle" in a haystack, ICDCSW
    2011, without its smoothing: these are means of runs, not raw samples).

    Args:
        dots: (x, y), x ascending.

    Returns:
        Its x; None of fewer than three dots, and where the curve is straight within 10 %.
    """
    if len(dots) < 3:
        return None
    (x0, y0), (x1, y1) = dots[0], dots[-1]
    lowest, highest = min(y for _, y in dots), max(y for _, y in dots)
    if x0 == x1 or lowest == highest:
        return None
    height = highest - lowest

    def away(dot: Dot) -> float:
        at = (dot[0] - x0) / (x1 - x0)
        return abs((dot[1] - y0 - at * (y1 - y0)) / height)

    furthest = max(dots, key=away)
    return furthest[0] if away(furthest) > STRAIGHT else None


def frontier(dots: Sequence[Dot]) -> list[int]:
    """Indices of the dots of which no other is less in one and not more in the other.

    Ordered by the first coordinate; of equal dots the first.
    """
    best: list[int] = []
    for at in sorted(range(len(dots)), key=lambda i: (dots[i], i)):
        less = not best or dots[at][1] < dots[best[-1]][1]
        if less and not (best and isclose(dots[at][1], dots[best[-1]][1])):
            best.append(at)
    return best
