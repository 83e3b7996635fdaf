"""Closed forms against the tables of reference values, to the digits printed there."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.theory.batches import greatest_s, makespan
from harness.theory.erlang import (
    MMc,
    all_busy,
    all_users_busy,
    erlang_b,
    erlang_c,
    sojourn_exceeds,
)
from harness.theory.finite import closed, mmck
from harness.theory.general import (
    Moments,
    allen_cunneen,
    moments,
    pollaczek_khinchine,
    relaxation_s,
    rising_quantile,
    sakasegawa,
)
from harness.theory.impatience import erlang_a, mmc_d
from harness.theory.laws import (
    Usl,
    fit_usl,
    loop_throughput_bounds,
    response_s,
    retry_amplification,
    useful_depth,
    vulnerable_band,
)
from mock_llm.distributions import (
    Constant,
    Distribution,
    Exponential,
    Gamma,
    Lognormal,
    Mixture,
    Part,
    quantile_function,
)

MICRO = 0.5e-6  # the tables are printed to six digits after the point
OFTEN = (1 + (3 / 5) ** 0.5) / 2  # a hyperexponential of cv2 = 4 with balanced means
HYPER = Mixture(
    parts=(
        Part(weight=OFTEN, dist=Exponential(mean=0.5 / OFTEN)),
        Part(weight=1 - OFTEN, dist=Exponential(mean=0.5 / (1 - OFTEN))),
    )
)
loads = st.floats(0.05, 0.95)
counts = st.integers(1, 60)


@pytest.mark.parametrize(
    ("servers", "arrival", "row"),
    [
        (1, 0.8, (0.8, 3.2, 4.0, 3.465736, 14.978661, 23.025851)),
        (5, 3, (0.236152, 0.354227, 0.118076, 0.816982, 3.199917, 4.815624)),
        (5, 4, (0.554113, 2.216450, 0.554113, 1.204395, 4.197463, 6.079663)),
        (5, 4.5, (0.762493, 6.862439, 1.524986, 1.952449, 6.812469, 10.049781)),
        (50, 45, (0.363864, 3.274780, 0.072773, 0.776470, 3.082796, 4.692234)),
        (50, 48, (0.694456, 16.666935, 0.347228, 1.068820, 3.510775, 5.130104)),
    ],
)
def test_mmc(servers: int, arrival: float, row: tuple[float, ...]) -> None:
    """C, Lq, Wq and the sojourn's percentiles of M/M/c are those of the table."""
    queue = MMc(arrival, 1.0, servers)
    percentiles = [queue.sojourn_quantile_s(share) for share in (0.5, 0.95, 0.99)]
    found = (queue.p_wait, queue.queue, queue.wait_s, *percentiles)
    assert found == pytest.approx(row, abs=MICRO)


@pytest.mark.parametrize(
    ("servers", "load", "blocked"),
    [(5, 4, 0.199067), (10, 8, 0.121661), (50, 45, 0.054104), (50, 50, 0.104787)],
)
def test_erlang_b(servers: int, load: float, blocked: float) -> None:
    """Erlang's loss is that of the table."""
    assert erlang_b(servers, load) == pytest.approx(blocked, abs=MICRO)


@pytest.mark.parametrize(
    ("arrival", "servers", "places", "lost", "throughput", "wait_s"),
    [
        (0.8, 1, 5, 0.088819, 0.728944, 1.563065),
        (6, 5, 10, 0.212593, 4.724441, 0.542518),
        (50, 50, 150, 0.009129, 49.543559, 0.930506),
        (60, 50, 10050, 0.166667, 50.0, 199.9),
    ],
)
def test_mmck(
    arrival: float, servers: int, places: int, lost: float, throughput: float, wait_s: float
) -> None:
    """Loss, throughput and wait of M/M/c/K are those of the table."""
    queue = mmck(arrival, 1.0, servers, places)
    found = (queue.lost, queue.throughput, queue.wait_s)
    assert found == pytest.approx((lost, throughput, wait_s), abs=MICRO)


@pytest.mark.parametrize(
    ("service", "wait_s"),
    [
        (Constant(value=1.0), 2.0),
        (Gamma(shape=2.0, scale=0.5), 3.0),
        (Exponential(mean=1.0), 4.0),
        (Lognormal(mean=1.0, sigma=1.0), 5.4366),
        (HYPER, 10.0),
    ],
)
def test_pollaczek_khinchine(service: Distribution, wait_s: float) -> None:
    """The wait of M/G/1 at a load of .8 is that of the table."""
    assert pollaczek_khinchine(0.8, moments(service)) == pytest.approx(wait_s, abs=5e-5)


@pytest.mark.parametrize(
    ("arrival", "servers", "rate", "lost", "wait_s"),
    [
        (4, 5, 0.5, 0.077969, 0.155937),
        (6, 5, 0.5, 0.226387, 0.452773),
        (48, 50, 1 / 30, 0.007169, 0.215072),
        (100, 50, 1 / 30, 0.5, 15.0),
    ],
)
def test_erlang_a(arrival: float, servers: int, rate: float, lost: float, wait_s: float) -> None:
    """Abandonment and wait under exponential patience are those of the table."""
    found = erlang_a(arrival, 1.0, servers, 1 / rate)
    assert (found.p_abandon, found.wait_s) == pytest.approx((lost, wait_s), abs=MICRO)


@pytest.mark.parametrize(
    ("arrival", "servers", "limit_s", "lost", "wait_s"),
    [
        (5, 5, 1, 0.117503, 0.411262),
        (6, 5, 1, 0.207750, 0.589885),
        (55, 50, 1, 0.091176, 0.821817),
        (60, 50, 30, 0.166667, 29.916667),
    ],
)
def test_mmc_d(arrival: float, servers: int, limit_s: float, lost: float, wait_s: float) -> None:
    """Abandonment and wait under a fixed limit are those of the table."""
    found = mmc_d(arrival, 1.0, servers, limit_s)
    assert (found.p_abandon, found.wait_s) == pytest.approx((lost, wait_s), abs=MICRO)


def test_approximations_are_exact_where_they_say_so() -> None:
    """Allen-Cunneen is M/M/c and M/G/1 there; Sakasegawa is M/M/1, and near M/M/c."""
    exponential = Moments(1.0, 1.0)
    assert allen_cunneen(4.5, 1.0, exponential, 5) == pytest.approx(MMc(4.5, 1.0, 5).wait_s)
    wild = Moments(1.0, 4.0)
    assert allen_cunneen(0.8, 1.0, wild, 1) == pytest.approx(pollaczek_khinchine(0.8, wild))
    assert sakasegawa(0.8, 1.0, exponential, 1) == pytest.approx(4.0)
    assert sakasegawa(4.5, 1.0, exponential, 5) == pytest.approx(MMc(4.5, 1.0, 5).wait_s, rel=0.02)


@settings(max_examples=40)
@given(share=loads, servers=counts)
def test_a_queue_with_great_room_is_one_without_end(share: float, servers: int) -> None:
    """M/M/c/K tends to M/M/c, and both forms of patience do when it is great."""
    arrival = share * servers
    queue = MMc(arrival, 1.0, servers)
    roomy = mmck(arrival, 1.0, servers, servers + 500)
    assert roomy.wait_s == pytest.approx(queue.wait_s, rel=1e-6, abs=1e-12)
    assert roomy.sojourn_quantile_s(0.95) == pytest.approx(queue.sojourn_quantile_s(0.95), rel=1e-6)
    assert mmc_d(arrival, 1.0, servers, 1e6).wait_s == pytest.approx(queue.wait_s, abs=1e-9)
    assert erlang_a(arrival, 1.0, servers, 1e6).wait_s == pytest.approx(
        queue.wait_s, rel=1e-3, abs=1e-9
    )


@given(share=st.floats(0.05, 5), servers=counts, patience=st.floats(0.01, 100))
def test_impatience_obeys_the_laws(share: float, servers: int, patience: float) -> None:
    """Shares are shares, what is served fits the servers, and nobody waits beyond patience."""
    for formula in (erlang_a, mmc_d):
        found = formula(share * servers, 1.0, servers, patience)
        assert 0 <= found.p_abandon <= found.p_wait + 1e-12 <= 1 + 2e-12
        assert share * (1 - found.p_abandon) <= 1 + 1e-9
        assert found.wait_s >= 0
    assert found.wait_s <= patience


@given(servers=counts, limit_s=st.floats(1, 10), side=st.sampled_from([-1, 1]))
def test_a_fixed_limit_has_no_seam_at_full_load(servers: int, limit_s: float, side: int) -> None:
    """At rho = 1 the integral's two forms meet."""
    near = mmc_d(servers * (1 + side * 2e-5 / servers / limit_s), 1.0, servers, limit_s)
    exact = mmc_d(float(servers), 1.0, servers, limit_s)
    assert near.p_abandon == pytest.approx(exact.p_abandon, rel=1e-4)
    assert near.wait_s == pytest.approx(exact.wait_s, rel=1e-4)


@given(users=st.integers(1, 80), think_s=st.floats(0.1, 50), servers=counts)
def test_closed_loops_obey_little_and_their_bounds(
    users: int, think_s: float, servers: int
) -> None:
    """N = X (R + Z), between the asymptotic bounds; nobody waits where each has a server."""
    queue = closed(users, think_s, 1.0, servers)
    low, high = loop_throughput_bounds(users, think_s, 1.0, servers)
    assert low * (1 - 1e-9) <= queue.throughput <= high * (1 + 1e-9)
    assert response_s(users, queue.throughput, think_s) == pytest.approx(queue.sojourn_s)
    if users <= servers:
        assert queue.sojourn_s == pytest.approx(1.0)
        assert queue.throughput == pytest.approx(high)


def test_sojourn_of_a_finite_queue_is_that_of_its_mean() -> None:
    """The integral of the share that takes longer is the mean, for one server and for several."""
    for queue in (mmck(0.8, 1.0, 1, 5), mmck(6, 1.0, 5, 10), closed(12, 2.0, 1.0, 3)):
        late = [sojourn_exceeds(queue.found, queue.servers, 1.0, n / 50) for n in range(2000)]
        assert (sum(late) - 0.5) / 50 == pytest.approx(queue.sojourn_s, rel=1e-4)
        p95 = queue.sojourn_quantile_s(0.95)
        assert sojourn_exceeds(queue.found, queue.servers, 1.0, p95) == pytest.approx(0.05)


def test_mean_value_analysis_agrees_with_the_closed_loop() -> None:
    """Exact MVA (Reiser and Lavenberg, 1980) gives the same for one server."""
    throughput, queue = 0.0, 0.0
    for n in range(1, 21):
        sojourn = 1.0 * (1 + queue)
        throughput = n / (sojourn + 5.0)
        queue = throughput * sojourn
    assert closed(20, 5.0, 1.0, 1).throughput == pytest.approx(throughput)


def test_little_and_the_crisis() -> None:
    """0.72/s is a cycle of 1.389 s, five slots of which give 3.60/s, and 4.20/s needs 1.190 s."""
    assert round(1 / 0.72, 3) == 1.389
    assert loop_throughput_bounds(5, 0.0, 1 / 0.72, 5)[1] == pytest.approx(3.60)
    assert response_s(5, 4.20, 0.0) == pytest.approx(1.190, abs=5e-4)
    assert (round(100 * (4.20 / 0.72 - 1)), round(100 * (2.76 / 0.72 - 1))) == (483, 283)


def test_what_a_queue_of_ten_thousand_is_worth() -> None:
    """50 workers at 1.19 s: 42/s of 1,667, full in 6.2 s, 238 s at its tail, useful to 1,210."""
    served, offered = 50 / 1.19, 1000 * 100 / 60
    assert (round(served), round(offered), round(offered / served)) == (42, 1667, 40)
    assert 10_000 / (offered - served) == pytest.approx(6.2, abs=0.05)
    assert 10_000 / served == pytest.approx(238, abs=0.5)
    assert useful_depth(50, 1.19, 30.0) == pytest.approx(1210, abs=1)
    assert useful_depth(50, 40.0, 30.0) == 0


def test_retries_and_the_vulnerable_band() -> None:
    """Attempts add up to (1 - p^(r+1)) / (1 - p); three retries are a danger from 10.5/s on."""
    assert retry_amplification(0.5, 3) == pytest.approx(1 + 0.5 + 0.25 + 0.125)
    assert (retry_amplification(0.0, 3), retry_amplification(1.0, 3)) == (1.0, 4.0)
    assert vulnerable_band(50, 1.19, 3) == pytest.approx((10.5, 42.0), abs=0.05)


def test_the_greatest_of_a_batch() -> None:
    """Of ten exponentials it is a harmonic number; ten at once of the crisis give 3.54/s."""
    harmonic = sum(1 / n for n in range(1, 11))
    assert greatest_s(quantile_function(Exponential(mean=1)), 10) == pytest.approx(harmonic)
    crisis = quantile_function(Lognormal(mean=1.19, sigma=0.65))
    assert 10 / greatest_s(crisis, 10) == pytest.approx(3.54, abs=0.005)
    assert greatest_s(crisis, 1) == pytest.approx(1.19, rel=1e-5)


def test_a_batch_on_slots() -> None:
    """Exponentials and constants are exact; ten of the crisis on five slots are its 2.86/s."""
    tenth = sum(1 / n for n in range(1, 6))
    exponential = quantile_function(Exponential(mean=1))
    assert makespan(exponential, 105, 5).total_s == pytest.approx(20 + tenth)
    assert makespan(exponential, 7, 1).total_s == pytest.approx(7)
    assert makespan(exponential, 5, 9).total_s == pytest.approx(greatest_s(exponential, 5))
    assert makespan(quantile_function(2.0), 11, 5).total_s == pytest.approx(6.0)
    crisis = quantile_function(Lognormal(mean=1.19, sigma=0.65))
    assert 10 / makespan(crisis, 10, 5).total_s == pytest.approx(
        2.86, abs=0.03
    )  # measured, 6,000 runs


def test_servers_enough_for_all() -> None:
    """Where none would wait Erlang's C is nothing either, and N users never need more than N."""
    assert all_busy(50, 10.0) == pytest.approx(0.0, abs=1e-15)
    assert all_busy(1, 0.7) == pytest.approx(0.503415, abs=MICRO)  # 1 - exp(-.7)
    assert all_busy(50, 45.0) > 0.2
    assert all_users_busy(50, 50, 0.9) == 0.0
    assert all_users_busy(1, 3, 0.5) == pytest.approx(0.75)


def test_a_mixture_has_a_true_quantile() -> None:
    """It never falls, has the mixture's mean, and its median parts the whole in halves."""
    rising, draw = rising_quantile(HYPER), quantile_function(HYPER)
    values = [rising(n / 1000) for n in range(1, 1000)]
    assert values == sorted(values)
    assert greatest_s(rising, 1) == pytest.approx(1.0, rel=1e-3)
    below = sum(draw((n + 0.5) / 10_000) < rising(0.5) for n in range(10_000))
    assert below == pytest.approx(5000, abs=10)


def test_universal_scalability() -> None:
    """Points of a law give it back, with its peak; straight ones have none; two are too few."""
    law = Usl(gamma=0.72, alpha=0.05, beta=0.002)
    sizes = [1, 2, 5, 10, 20, 50]
    found = fit_usl(sizes, [law.throughput(n) for n in sizes])
    assert (found.gamma, found.alpha, found.beta) == pytest.approx((0.72, 0.05, 0.002))
    assert found.peak == pytest.approx((0.95 / 0.002) ** 0.5)
    assert fit_usl([1, 2, 4], [1.0, 2.0, 4.0]).peak is None
    with pytest.raises(ValueError, match="three different sizes"):
        fit_usl([1, 2, 2], [1.0, 2.0, 2.0])
    assert fit_usl([1, 2, 4], [1.0, 4.0, 40.0]).alpha == 0


def test_overload_has_no_steady_state() -> None:
    """At a load of 1 and beyond, waits without an end to the queue are infinite."""
    for arrival in (5.0, 7.0):
        queue = MMc(arrival, 1.0, 5)
        assert (queue.wait_s, queue.sojourn_quantile_s(0.5), queue.p_wait) == (inf, inf, 1.0)
        assert queue.sojourn_exceeds(1e9) == 1.0
        assert allen_cunneen(arrival, 1.0, Moments(1.0, 0.5), 5) == inf
        assert sakasegawa(arrival, 1.0, Moments(1.0, 0.5), 5) == inf
    assert pollaczek_khinchine(1.0, Moments(1.0, 0.0)) == inf
    assert relaxation_s(Moments(1.0, 1.0), 1.0, 1.0) == inf
    assert relaxation_s(Moments(1.0, 1.0), 1.0, 0.5) == pytest.approx(8.33, abs=0.01)


def test_extremes_do_not_overflow() -> None:
    """A hundred thousand servers, a day of overload and no load at all have their answers."""
    assert erlang_c(100_000, 99_000) == pytest.approx(0.0, abs=1e-3)
    assert mmc_d(1000, 1.0, 1, 1e4).p_abandon == pytest.approx(0.999)
    assert erlang_a(1e4, 1.0, 1, 1e4).p_abandon == pytest.approx(0.9999)
    assert (erlang_b(5, 0.0), erlang_c(5, 0.0)) == (0.0, 0.0)
    assert mmck(2.0, 1.0, 2, 5000).sojourn_quantile_s(0.5) > 1000
