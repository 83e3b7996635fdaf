"""A distribution as it was measured."""

from bisect import bisect_right
from itertools import pairwise

from mock_llm.distributions.base import Law, Quantile, require, within


class Empirical(Law, tag="empirical", frozen=True, kw_only=True):
    """Measured quantiles, with straight lines between them.

    Attributes:
        quantiles: values at equally spaced probabilities from 0 (the least) to 1 (the greatest),
            or [probability, value] pairs. Before the first pair and after the last the value stays
            what it is there.
    """

    quantiles: tuple[float | tuple[float, float], ...]

    def check(self) -> None:
        """Check that the quantiles are a quantile function."""
        super().check()
        require(len(self.quantiles) >= 2, "quantiles must be at least two")
        require(
            len({isinstance(q, tuple) for q in self.quantiles}) == 1,
            "quantiles must be all values or all [probability, value] pairs",
        )
        for probability, value in self._points():
            within("a quantile's probability", probability, 0.0, 1.0)
            within("a quantile's value", value, 0.0)
        for (p, x), (q, y) in pairwise(self._points()):
            require(q > p, f"probabilities must rise: {q} comes after {p}")
            require(y >= x, f"quantiles must not fall: {y} comes after {x}")

    def _points(self) -> list[tuple[float, float]]:
        last = len(self.quantiles) - 1
        return [q if isinstance(q, tuple) else (i / last, q) for i, q in enumerate(self.quantiles)]

    def raw_quantile(self) -> Quantile:
        """Compile the linear interpolation."""
        points = self._points()
        probabilities = [p for p, _ in points]
        lowest, highest = points[0][1], points[-1][1]

        def quantile(u: float) -> float:
            i = bisect_right(probabilities, u)
            if i == 0:
                return lowest
            if i == len(points):
                return highest
            (p, x), (q, y) = points[i - 1], points[i]
            return x + (y - x) * (u - p) / (q - p)

        return quantile

    def raw_mean(self) -> float:
        """Return the area under the lines."""
        points = [(0.0, self._points()[0][1]), *self._points(), (1.0, self._points()[-1][1])]
        return sum((q - p) * (x + y) / 2 for (p, x), (q, y) in pairwise(points))
