"""Distributions: right quantiles and means, refused nonsense, and what shift and cap do."""

from math import log
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mock_llm.distributions import (
    Constant,
    Distribution,
    Empirical,
    Exponential,
    Gamma,
    Lognormal,
    Mixture,
    Normal,
    Pareto,
    Part,
    Uniform,
    Weibull,
    mean,
    quantile_function,
)

PROBABILITIES = [1e-9, 0.001, 0.1, 0.5, 0.9, 0.99, 0.9999]
MU, SIGMA = 0.2, 0.65

# Each of our parametrisations beside scipy's idea of the same law.
AGAINST_SCIPY: list[tuple[Distribution, Any]] = [
    (Uniform(low=1, high=3), stats.uniform(1, 2)),
    (Exponential(mean=2), stats.expon(scale=2)),
    (Exponential(p50=log(2)), stats.expon()),
    (Normal(mean=10, sd=1), stats.norm(10, 1)),
    (Lognormal(mu=MU, sigma=SIGMA), stats.lognorm(SIGMA, scale=np.exp(MU))),
    (Lognormal(mean=1.5, sigma=SIGMA), stats.lognorm(SIGMA, scale=1.5 / np.exp(SIGMA**2 / 2))),
    (Lognormal(p50=2, sigma=SIGMA), stats.lognorm(SIGMA, scale=2)),
    (Gamma(shape=2.5, scale=0.4), stats.gamma(2.5, scale=0.4)),
    (Gamma(mean=3, cv=0.5), stats.gamma(4, scale=0.75)),
    (Weibull(shape=0.65, scale=92), stats.weibull_min(0.65, scale=92)),
]

BY_PERCENTILES: list[Distribution] = [
    Normal(p50=1, p99=3),
    Lognormal(p50=1, p99=3),
    Gamma(p50=1, p99=3),
    Weibull(p50=1, p99=3),
    Pareto(p50=1, p99=3, cap=100),
]

MONOTONE: list[Distribution] = [
    0.7,
    Constant(value=2),
    Empirical(quantiles=(1, 1, 2, 7)),
    Empirical(quantiles=((0.1, 1), (0.5, 2), (0.9, 2))),
    Pareto(scale=1, alpha=0.5, cap=1e6),
    Normal(mean=0.5, sd=1, shift=0.1, cap=2),
    *(dist for dist, _ in AGAINST_SCIPY),
    *BY_PERCENTILES,
]


class Box(msgspec.Struct):
    """Something with a distribution in it, as a scenario has."""

    dist: Distribution


def _read(table: object) -> Distribution:
    return msgspec.convert({"dist": table}, Box).dist


@pytest.mark.parametrize(("dist", "law"), AGAINST_SCIPY)
def test_quantiles_agree_with_scipy(dist: Distribution, law: Any) -> None:
    """Every closed-form quantile function is scipy's to nine digits."""
    actual = [quantile_function(dist)(p) for p in PROBABILITIES]
    assert actual == pytest.approx(law.ppf(PROBABILITIES), rel=1e-9)


@pytest.mark.parametrize(("dist", "law"), AGAINST_SCIPY)
def test_means_agree_with_scipy(dist: Distribution, law: Any) -> None:
    """Every closed-form mean is scipy's."""
    assert mean(dist) == pytest.approx(law.mean(), rel=1e-9)


@pytest.mark.parametrize("dist", BY_PERCENTILES)
def test_percentiles_are_met(dist: Distribution) -> None:
    """A law given by p50 and p99 has just these percentiles."""
    quantile = quantile_function(dist)
    assert (quantile(0.5), quantile(0.99)) == pytest.approx((1, 3), rel=1e-9)


@pytest.mark.parametrize("ratio", [1.01, 1.5, 10, 1e6])
def test_gamma_fits_any_usual_ratio(ratio: float) -> None:
    """The root find works from nearly constant to absurdly wide laws."""
    quantile = quantile_function(Gamma(p50=2, p99=2 * ratio))
    assert (quantile(0.5), quantile(0.99)) == pytest.approx((2, 2 * ratio), rel=1e-9)


def test_pareto_agrees_with_scipy_below_its_cap() -> None:
    """Up to the cap a Pareto law is scipy's."""
    actual = [quantile_function(Pareto(scale=2, alpha=1.5, cap=1e9))(p) for p in PROBABILITIES]
    assert actual == pytest.approx(stats.pareto(1.5, scale=2).ppf(PROBABILITIES), rel=1e-9)


@pytest.mark.parametrize("dist", MONOTONE)
@given(data=st.data())
def test_a_quantile_function_never_falls_below_0_or_back(
    dist: Distribution, data: st.DataObject
) -> None:
    """More probability never means a smaller value, and no value is negative."""
    inside = st.floats(2**-53, 1 - 2**-53)
    low, high = sorted((data.draw(inside), data.draw(inside)))
    quantile = quantile_function(dist)
    assert 0.0 <= quantile(low) <= quantile(high) < np.inf


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.5])
def test_a_capped_pareto_has_the_mean_of_its_integral(alpha: float) -> None:
    """The closed form is the integral of the quantile function."""
    dist = Pareto(scale=1, alpha=alpha, cap=50, shift=2)
    places = (np.arange(2_000_000) + 0.5) / 2_000_000
    values = np.minimum(2 + (1 - places) ** (-1 / alpha), 50)
    assert mean(dist) == pytest.approx(values.mean(), rel=1e-6)


def test_a_cap_lowers_the_mean_as_it_should() -> None:
    """A capped lognormal has the mean E[min(X, cap)] of the limited expected value."""
    sigma, cap = 1.2, 2.0
    z = np.log(cap) / sigma
    below = np.exp(sigma**2 / 2) * stats.norm.cdf(z - sigma)
    expected = below + cap * stats.norm.sf(z)
    assert mean(Lognormal(mu=0, sigma=sigma, cap=cap)) == pytest.approx(expected, rel=1e-5)


def test_a_normal_law_is_clamped_at_0_and_its_mean_knows() -> None:
    """What would be negative is 0, and the mean is that of the rectified law."""
    dist = Normal(mean=0.5, sd=2)
    expected = 0.5 * stats.norm.cdf(0.25) + 2 * stats.norm.pdf(0.25)
    assert quantile_function(dist)(0.2) == 0.0
    assert mean(dist) == pytest.approx(expected)


def test_shift_moves_every_value_and_cap_holds_after_it() -> None:
    """A shift is added to the law's own values; the cap limits the sum."""
    plain = quantile_function(Exponential(mean=1))
    shifted = quantile_function(Exponential(mean=1, shift=0.5))
    capped = quantile_function(Exponential(mean=1, shift=0.5, cap=1.0))
    actual = [(shifted(u), capped(u)) for u in (0.2, 0.9)]
    assert actual == [(plain(0.2) + 0.5, plain(0.2) + 0.5), (plain(0.9) + 0.5, 1.0)]


def test_a_shift_moves_the_mean() -> None:
    """The mean includes the shift."""
    assert mean(Lognormal(mean=1.19, sigma=0.65, shift=0.2)) == pytest.approx(1.39)


def test_no_spread_is_a_constant() -> None:
    """A law without variance gives its one value."""
    dists: list[Distribution] = [
        Normal(mean=2, sd=0),
        Lognormal(p50=2, sigma=0),
        Constant(value=2),
        Uniform(low=2, high=2),
        2.0,
    ]
    assert [quantile_function(d)(0.9) for d in dists] == pytest.approx([2.0] * 5)
    assert [mean(d) for d in dists] == pytest.approx([2.0] * 5)


def test_empirical_interpolates_equally_spaced_quantiles() -> None:
    """Values without probabilities reach evenly from the least to the greatest."""
    quantile = quantile_function(Empirical(quantiles=(1, 2, 6)))
    assert [quantile(u) for u in (0.25, 0.5, 0.75)] == [1.5, 2.0, 4.0]


def test_empirical_is_flat_outside_its_pairs() -> None:
    """Nothing is extrapolated beyond the first and last pair."""
    dist = Empirical(quantiles=((0.2, 1), (0.6, 3)))
    quantile = quantile_function(dist)
    assert [quantile(u) for u in (0.1, 0.4, 0.9)] == pytest.approx([1.0, 2.0, 3.0])
    assert mean(dist) == pytest.approx(0.2 * 1 + 0.4 * 2 + 0.4 * 3)


def test_a_mixture_has_the_mixed_distribution() -> None:
    """Evenly spaced uniforms give values whose distribution function is the weighted sum."""
    body, stall = Lognormal(mu=0, sigma=0.3), Uniform(low=20, high=40)
    dist = Mixture(parts=(Part(weight=99, dist=body), Part(weight=1, dist=stall)))
    quantile = quantile_function(dist)
    values = np.array([quantile((i + 0.5) / 20_000) for i in range(20_000)])
    at = np.array([0.5, 1, 2, 25, 40])
    expected = 0.99 * stats.lognorm(0.3).cdf(at) + 0.01 * stats.uniform(20, 20).cdf(at)
    assert [(values <= x).mean() for x in at] == pytest.approx(expected, abs=1e-4)
    assert values.mean() == pytest.approx(mean(dist), rel=1e-3)


def test_a_mixture_works_at_the_seams_and_ends() -> None:
    """Uniforms at a part's edge never leave the open interval of the part."""
    part = Part(weight=1, dist=Lognormal(mu=0, sigma=1))
    edges = [2**-53, 1 / 3, 0.5, 2 / 3, 1 - 2**-53]
    mixtures = [quantile_function(Mixture(parts=(part,) * n)) for n in (2, 3, 10)]
    assert all(0 < quantile(u) < 1e6 for quantile in mixtures for u in edges)


@pytest.mark.parametrize("dist", [*MONOTONE, Mixture(parts=(Part(weight=1, dist=3.0),))])
def test_a_distribution_survives_writing_and_reading(dist: Distribution) -> None:
    """Each family is told by its kind."""
    assert _read(msgspec.to_builtins(dist)) == dist


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (-1, "Expected `float` >= 0.0"),
        (float("nan"), "Expected `float` >= 0.0"),
        ({"kind": "cauchy"}, "Invalid value 'cauchy'"),
        ({"kind": "exponential", "mean": 1, "scale": 1}, "unknown field `scale`"),
        ({"kind": "exponential"}, "give exactly one of mean | p50, not nothing"),
        ({"kind": "exponential", "mean": 1, "p50": 1}, "one of mean | p50, not mean + p50"),
        ({"kind": "exponential", "mean": 0}, "mean must lie between 1e-09 and 1e+09, not 0"),
        ({"kind": "lognormal", "mean": 1, "p99": 2}, "not mean + p99"),
        ({"kind": "lognormal", "p50": 2, "p99": 2}, "p99 must be above p50"),
        ({"kind": "lognormal", "p50": 2, "sigma": -1}, "sigma must lie between 0 and 10"),
        ({"kind": "lognormal", "mu": 0, "sigma": float("nan")}, "sigma must lie between"),
        ({"kind": "normal", "mean": 1, "sd": -1}, "sd must lie between 0"),
        ({"kind": "normal", "mean": 1, "sd": 1, "shift": -1}, "shift must lie between 0"),
        ({"kind": "normal", "mean": 1, "sd": 1, "shift": 2, "cap": 1}, "must be above the shift"),
        ({"kind": "uniform", "low": 2, "high": 1}, "high 1.0 must not be below low 2.0"),
        ({"kind": "uniform", "low": -1, "high": 1}, "low must lie between 0"),
        ({"kind": "uniform", "low": 0, "high": 1e10}, "high must lie between 0"),
        ({"kind": "constant", "value": -1}, "value must lie between 0"),
        ({"kind": "gamma", "shape": 1}, "give exactly one of shape + scale | mean + cv"),
        ({"kind": "gamma", "p50": 1, "p99": 1.0001}, "p99 is too close to p50"),
        ({"kind": "weibull", "shape": 0, "scale": 1}, "shape must lie between 0.04"),
        ({"kind": "pareto", "scale": 1, "alpha": 1}, "missing required field `cap`"),
        ({"kind": "pareto", "scale": 3, "alpha": 1, "cap": 2}, "cap must lie between 3"),
        ({"kind": "mixture", "parts": []}, "parts must not be empty"),
        ({"kind": "mixture", "parts": [{"weight": 0, "dist": 1}]}, "weight must lie between"),
        ({"kind": "mixture", "parts": [{"weight": 1, "dist": -1}]}, "$.dist.parts[0].dist"),
        ({"kind": "empirical", "quantiles": [1]}, "quantiles must be at least two"),
        ({"kind": "empirical", "quantiles": [1, 2], "cap": 0}, "cap must lie between"),
        ({"kind": "empirical", "quantiles": [2, 1]}, "must not fall: 1.0 comes after 2.0"),
        ({"kind": "empirical", "quantiles": [[0, 1], 2]}, "all values or all"),
        ({"kind": "empirical", "quantiles": [[0.5, 1], [0.5, 2]]}, "probabilities must rise"),
        ({"kind": "empirical", "quantiles": [[0.5, 1], [1.5, 2]]}, "between 0 and 1, not 1.5"),
        ({"kind": "empirical", "quantiles": [-1, 2]}, "a quantile's value must lie between 0"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(table: object, sentence: str) -> None:
    """A bad parameter is named together with what is wrong with it."""
    with pytest.raises(msgspec.ValidationError) as caught:
        _read(table)
    assert sentence in str(caught.value)


def test_nonsense_made_in_python_is_refused_too() -> None:
    """A struct that is built by code is checked just like one that is read."""
    with pytest.raises(ValueError, match="p99 must be above p50"):
        Weibull(p50=2, p99=1)
    with pytest.raises(ValueError, match="value must lie between 0"):
        quantile_function(-1.0)
