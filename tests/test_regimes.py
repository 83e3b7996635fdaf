"""Good and bad times, and slower hours: functions of the seed and of the time of the run."""

from itertools import pairwise
from math import exp
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_llm.behaviour import Provider
from mock_llm.config import Drift, Profile, Regime, Upstream
from mock_llm.counts import Memory
from mock_llm.drift import slowness
from mock_llm.faults import ServerError
from mock_llm.plan import Call
from mock_llm.regimes import Regimes
from mock_llm.rng import Keyed

HOURLY = Regime(good_s=90.0, bad_s=30.0, slowdown=4.0)
ONE = Call(key="r", model="openai/gpt-4o", prompt_tokens=1)


def _regimes(seed: int = 1, regime: Regime = HOURLY) -> Regimes:
    return Regimes(regime, Keyed(seed))


def _lengths(regimes: Regimes, count: int) -> list[float]:
    """Lengths of the first so many times, from the ends that it knows."""
    regimes.at(count * 1000.0)
    return [later - sooner for sooner, later in pairwise([0.0, *regimes._ends_s])][:count]


def _provider(seed: int = 1, **upstream: Any) -> Provider:
    profile = Profile(ttft=1.0, itl=0.1, output_tokens=11)
    return Provider(Upstream(**{"profile": profile, **upstream}), seed=seed)


def test_a_run_starts_in_good_times_and_alternates() -> None:
    """Just before each end it is what it was, and at the end the other."""
    regimes = _regimes()
    assert regimes.at(0.0) == "good"
    ends = [sum(_lengths(regimes, 40)[:n]) for n in range(1, 40)]
    seen = [(regimes.at(end - 1e-6), regimes.at(end + 1e-6)) for end in ends]
    assert seen[:2] == [("good", "bad"), ("bad", "good")]
    assert seen == seen[:2] * 19 + seen[:1]


def test_lengths_are_exponential_with_their_means() -> None:
    """Means and the shares beyond them are those of the law, within four deviations."""
    lengths = _lengths(_regimes(), 20_000)
    for mean_s, drawn in ((90.0, lengths[::2]), (30.0, lengths[1::2])):
        assert sum(drawn) / 10_000 == pytest.approx(mean_s, rel=4 / 100)
        for times in (0.5, 1.0, 3.0):
            beyond = sum(length > times * mean_s for length in drawn) / 10_000
            assert beyond == pytest.approx(exp(-times), abs=4 * 0.005)


def test_share_of_bad_times_settles() -> None:
    """Long after the start, whenever it is, a quarter of the seeds are in bad times."""
    for at_s in (1e3, 2e3, 7e3):
        bad = sum(_regimes(seed).at(at_s) == "bad" for seed in range(2000)) / 2000
        assert bad == pytest.approx(0.25, abs=4 * 0.0097)


def test_share_of_bad_times_after_the_start_is_known() -> None:
    """From a good start the share of bad times grows as the chain's closed form says."""
    at_s, rate = 20.0, 1 / 90 + 1 / 30
    bad = sum(_regimes(seed).at(at_s) == "bad" for seed in range(4000)) / 4000
    assert bad == pytest.approx(0.25 * (1 - exp(-rate * at_s)), abs=4 * 0.006)


@given(st.lists(st.floats(0, 1e4), max_size=30))
def test_nobodys_asking_changes_the_times(asked_s: list[float]) -> None:
    """Whoever asks in whatever order is told the same; another seed has other times."""
    asked, fresh = _regimes(), _regimes()
    told = {at_s: asked.at(at_s) for at_s in asked_s}
    assert told == {at_s: fresh.at(at_s) for at_s in sorted(asked_s)}
    assert _lengths(_regimes(1), 5) != _lengths(_regimes(2), 5)


def test_bad_times_are_slow() -> None:
    """Time to first token and between tokens are multiplied; the rest of the weather is not."""
    provider, regimes = _provider(regime=HOURLY), _regimes()
    for now in range(0, 2000, 7):
        plan = provider.admit(ONE, 50.0 + now)
        pace = 4.0 if regimes.at(float(now)) == "bad" else 1.0
        assert (plan.first_token_s, plan.last_token_s) == pytest.approx((pace, 2 * pace))


def test_connection_setup_is_not_slowed() -> None:
    """The network is not the model."""
    call = Call(key="r", model="openai/gpt-4o", prompt_tokens=1, new_connection=True)
    provider = _provider(drift=Drift(factors=(3.0,)), connection_setup=0.5)
    plan = provider.admit(call, 0.0)
    assert (plan.setup_s, plan.first_token_s) == pytest.approx((0.5, 3.0))


@pytest.mark.parametrize("times", ["good", "bad"])
def test_faults_keep_to_their_regime(times: Any) -> None:
    """A fault of bad times strikes in all of them and in no other."""
    fault = ServerError(rate=1, regimes=(times,))
    provider, regimes = _provider(regime=HOURLY, faults={"f": fault}), _regimes()
    struck = [provider.admit(ONE, float(now)).status == 503 for now in range(0, 2000, 7)]
    assert struck == [regimes.at(float(now)) == times for now in range(0, 2000, 7)]
    assert {True, False} == set(struck)


def test_regimes_need_their_table() -> None:
    """A fault that waits for bad times where there are none is a mistake, and is told."""
    with pytest.raises(ValueError, match=r"faults name regimes \('f'\), and there is no"):
        Upstream(faults={"f": ServerError(rate=1, regimes=("bad",))})


def test_processes_that_share_the_beginning_share_the_times() -> None:
    """A provider that is told when the run began agrees with one that saw it begin."""
    drift, faults = Drift(factors=(1.0, 2.0, 5.0)), {"f": ServerError(rate=0.5, from_s=40)}
    settings: dict[str, Any] = {"regime": HOURLY, "drift": drift, "faults": faults}
    first = _provider(**settings)
    first.admit(ONE, 100.0)
    second = Provider(first.upstream, seed=1, memory=Memory(100.0))
    second.admit(ONE, 123.0)
    for now in range(130, 3000, 13):
        assert first.admit(ONE, float(now)) == second.admit(ONE, float(now))


def test_drift_goes_straight_from_factor_to_factor() -> None:
    """The first factor stands at the beginning, the last leads back to it, and it repeats."""
    drift = Drift(period_s=40.0, factors=(1.0, 3.0, 2.0, 2.0))
    asked_s = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 39.0, 40.0, 445.0)
    actual = [slowness(drift, at_s) for at_s in asked_s]
    assert actual == pytest.approx([1, 2, 3, 2.5, 2, 2, 2, 1.5, 1.1, 1, 2])


@given(
    factors=st.lists(st.floats(0.1, 10), min_size=1, max_size=24),
    since_s=st.floats(0, 1e7),
    period_s=st.floats(1, 1e6),
)
def test_drift_stays_between_its_factors(
    factors: list[float], since_s: float, period_s: float
) -> None:
    """No time is slower than the slowest factor, or faster than the fastest."""
    drift = Drift(period_s=period_s, factors=tuple(factors))
    slow = slowness(drift, since_s)
    assert min(factors) * (1 - 1e-9) <= slow <= max(factors) * (1 + 1e-9)


def test_drift_and_regime_multiply() -> None:
    """A bad time in a slow hour is both."""
    regimes = _regimes()
    bad_s = next(float(at_s) for at_s in range(1000) if regimes.at(float(at_s)) == "bad")
    provider = _provider(regime=HOURLY, drift=Drift(factors=(2.0,)))
    paces = [provider.admit(ONE, at_s).first_token_s for at_s in (0.0, bad_s)]
    assert paces == pytest.approx([2.0, 8.0])
