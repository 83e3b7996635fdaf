"""What the distributions share: shift, cap, and the checks of their parameters."""

from collections.abc import Callable
from math import exp, pi, sqrt
from statistics import NormalDist
from typing import ClassVar

import msgspec

Quantile = Callable[[float], float]

STANDARD = NormalDist()
Z99 = STANDARD.inv_cdf(0.99)

# A parameter beyond these bounds is a mistake, and within them no quantile function overflows.
SMALLEST, LARGEST = 1e-9, 1e9


class Family(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    """Base of every distribution: parameters, checked when it is made, and two questions."""

    def __post_init__(self) -> None:
        """Check the parameters.

        Raises:
            ValueError: a sentence that says which parameter is wrong, and why.
        """
        self.check()

    def check(self) -> None:
        """Raise ValueError if a parameter is wrong."""

    def quantile(self) -> Quantile:
        """Compile the quantile function: (0, 1) to values >= 0."""
        raise NotImplementedError

    def expected(self) -> float:
        """Return the mean."""
        raise NotImplementedError


class Law(Family, frozen=True):
    """A distribution with a shift and a cap; the other parameters describe it before both.

    Attributes:
        alternatives: the parametrisations; exactly one of these sets of fields must be given.
        bounds: least and greatest value of a parameter, where the usual ones will not do.
        shift: added to every value.
        cap: values above it (shift included) become it.
    """

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = ()
    bounds: ClassVar[dict[str, tuple[float, float]]] = {}

    shift: float = 0.0
    cap: float | None = None

    def check(self) -> None:
        """Check shift and cap, and the parametrisation if the family has several."""
        within("shift", self.shift, 0.0)
        if self.cap is not None:
            within("cap", self.cap)
            require(self.cap > self.shift, f"cap {self.cap} must be above the shift {self.shift}")
        if self.alternatives:
            self._check_parameters()

    def given(self, *names: str) -> bool:
        """Whether this parametrisation is the one in use."""
        return all(getattr(self, name) is not None for name in names)

    def _check_parameters(self) -> None:
        names = {name: None for choice in self.alternatives for name in choice}
        given = [name for name in names if self.given(name)]
        wanted = " | ".join(" + ".join(choice) for choice in self.alternatives)
        require(
            any(set(given) == set(choice) for choice in self.alternatives),
            f"give exactly one of {wanted}, not {' + '.join(given) or 'nothing'}",
        )
        for name in given:
            within(name, getattr(self, name), *self.bounds.get(name, (SMALLEST, LARGEST)))
        if {"p50", "p99"} <= set(given):
            require(getattr(self, "p99") > getattr(self, "p50"), "p99 must be above p50")  # noqa: B009

    def raw_quantile(self) -> Quantile:
        """Compile the quantile function without shift and cap; its values are >= 0."""
        raise NotImplementedError

    def raw_mean(self) -> float:
        """Return the mean without shift and cap."""
        raise NotImplementedError

    def quantile(self) -> Quantile:
        """Compile the quantile function: (0, 1) to values >= 0, never falling."""
        raw, shift, cap = self.raw_quantile(), self.shift, self.cap
        if cap is not None:
            return lambda u: min(shift + raw(u), cap)
        return (lambda u: shift + raw(u)) if shift else raw

    def expected(self) -> float:
        """Return the mean: in closed form, or by integration if there is a cap."""
        return self.shift + self.raw_mean() if self.cap is None else integral(self.quantile())


def require(holds: bool, sentence: str) -> None:
    """Raise ValueError with the sentence unless it holds."""
    if not holds:
        raise ValueError(sentence)


def within(name: str, value: float, low: float = SMALLEST, high: float = LARGEST) -> None:
    """Raise ValueError unless low <= value <= high (which nan never is)."""
    require(low <= value <= high, f"{name} must lie between {low:g} and {high:g}, not {value}")


def integral(quantile: Quantile, half_width: float = 8.0, steps: int = 8000) -> float:
    """Integrate a quantile function over (0, 1), which gives the mean of its distribution.

    With u = Phi(z) the integrand is smooth and bell-shaped, so that the trapezoid rule converges
    geometrically; at a kink (a cap) its error is about the square of the step, 4e-6. The mass
    beyond eight standard deviations, 1e-15, is left out.
    """
    step = 2 * half_width / steps
    places = (i * step - half_width for i in range(steps + 1))
    total = sum(quantile(STANDARD.cdf(z)) * exp(-z * z / 2) for z in places)
    return total * step / sqrt(2 * pi)
