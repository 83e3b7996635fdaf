"""Distributions as quantile functions: one uniform in, one value >= 0 out.

A scenario writes a bare number for a constant, or a table whose `kind` names the family. A new
family is one class in this package and one line of `Distribution`.
"""

from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import Annotated

from msgspec import Meta, Struct

from mock_llm.distributions.base import LARGEST, Family, Law, Quantile, require, within
from mock_llm.distributions.empirical import Empirical
from mock_llm.distributions.normal import Lognormal, Normal
from mock_llm.distributions.simple import Constant, Exponential, Uniform
from mock_llm.distributions.tailed import Gamma, Pareto, Weibull


class Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One component of a mixture; weights need not add up to 1."""

    weight: float
    dist: "Distribution"


class Mixture(Family, tag="mixture", frozen=True, kw_only=True):
    """One of several distributions, chosen by weight: a body and its stalls, for instance.

    The one uniform both chooses the part (by its share of the weights, in the order given) and,
    rescaled to (0, 1), draws from it. So the values are exactly the mixture's, without a root find,
    but `quantile` rises only within a part: it is a transport of the uniform, not a true quantile.
    """

    parts: tuple[Part, ...]

    def check(self) -> None:
        """Check the weights."""
        require(len(self.parts) > 0, "parts must not be empty")
        for part in self.parts:
            within("weight", part.weight)

    def quantile(self) -> Quantile:
        """Compile the choice of a part and the draw from it."""
        shares = _shares(self.parts)
        ends = list(accumulate(shares))
        draws = [quantile_function(part.dist) for part in self.parts]
        last = len(draws) - 1

        def quantile(u: float) -> float:
            i = min(bisect_right(ends, u), last)
            rest = (u - (ends[i] - shares[i])) / shares[i]
            return draws[i](min(max(rest, 2.0**-53), 1 - 2.0**-53))

        return quantile

    def expected(self) -> float:
        """Return the weighted mean of the parts' means."""
        shares = _shares(self.parts)
        return sum(s * mean(part.dist) for s, part in zip(shares, self.parts, strict=True))


Distribution = (
    Annotated[float, Meta(ge=0, le=LARGEST)]
    | Constant
    | Uniform
    | Exponential
    | Normal
    | Lognormal
    | Gamma
    | Weibull
    | Pareto
    | Mixture
    | Empirical
)


@lru_cache(maxsize=256)
def quantile_function(dist: Distribution) -> Quantile:
    """Compile a distribution into its quantile function, (0, 1) to values >= 0.

    Raises:
        ValueError: a bare number is negative, infinite or nan.
    """
    return _family(dist).quantile()


def mean(dist: Distribution) -> float:
    """Return the mean, shift and cap included (to about 1e-6 where there is a cap)."""
    return _family(dist).expected()


def _family(dist: Distribution) -> Family:
    return dist if isinstance(dist, Family) else Constant(value=dist)


def _shares(parts: tuple[Part, ...]) -> list[float]:
    total = sum(part.weight for part in parts)
    return [part.weight / total for part in parts]


__all__ = [
    "Constant",
    "Distribution",
    "Empirical",
    "Exponential",
    "Family",
    "Gamma",
    "Law",
    "Lognormal",
    "Mixture",
    "Normal",
    "Pareto",
    "Part",
    "Quantile",
    "Uniform",
    "Weibull",
    "mean",
    "quantile_function",
]
