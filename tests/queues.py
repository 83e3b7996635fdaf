"""The table of queues with a closed form: what `make closed-forms` and its test run the twin on."""

from collections.abc import Callable, Iterator
from math import log
from typing import NamedTuple

from harness.theory.erlang import MMc, erlang_b
from harness.theory.finite import mmck
from harness.theory.general import moments, pollaczek_khinchine
from harness.theory.impatience import Abandonment, erlang_a, mmc_d
from mock_llm.distributions import (
    Constant,
    Distribution,
    Exponential,
    Gamma,
    Lognormal,
    Mixture,
    Part,
)
from mock_llm.rng import Keyed

UNIT_S = 1000.0
MANY = 10**6
EXPONENTIAL = Exponential(mean=UNIT_S)
OFTEN = (1 + (3 / 5) ** 0.5) / 2
HYPER = Mixture(  # cv2 = 4 with balanced means
    parts=(
        Part(weight=OFTEN, dist=Exponential(mean=UNIT_S / 2 / OFTEN)),
        Part(weight=1 - OFTEN, dist=Exponential(mean=UNIT_S / 2 / (1 - OFTEN))),
    )
)
Patience = Callable[[int, str], float]


class Queueing(NamedTuple):
    """One queue.

    Attributes:
        name: of its rows.
        arrival: per service.
        servers: c.
        requests: of one run.
        service: its law.
        waiting: places in the queue; 0: the servers are the provider's slots, which then refuses.
        patience: of (seed, key): services that a caller waits to be served.
        filling: share of a run that it takes an overloaded queue to fill; MSER-5, which looks for
            the least error and not the least bias, is asked about what comes then.
        effort: how many times as long as usual the recursion goes on.
        at_service: with no place to wait, the servers are the service's workers all the same.
    """

    name: str
    arrival: float
    servers: int
    requests: int
    service: Distribution = EXPONENTIAL
    waiting: int = MANY
    patience: Patience | None = None
    filling: float = 0.0
    effort: int = 1
    at_service: bool = False


class Row(NamedTuple):
    """A figure of a queue, and what it is in closed form.

    Attributes:
        queue: which.
        figure: `sojourn` or `wait` of those served, `wait of all`, or the share `lost`.
        value: in closed form.
    """

    queue: Queueing
    figure: str
    value: float


def fixed(limit: float) -> Patience:
    """Everybody waits for so long."""
    return lambda _seed, _key: limit


def exponential(rate: float) -> Patience:
    """Everybody leaves at that rate."""
    return lambda seed, key: -log(Keyed(seed).uniform("patience", key)) / rate


def rows() -> list[Row]:
    """The table."""
    return [*_erlang(), *_finite(), *_general(), *_impatient()]


def _erlang() -> Iterator[Row]:
    for servers, arrival, requests in (
        (1, 0.8, 46_000),
        (5, 3.0, 4_000),
        (5, 4.0, 19_000),
        (5, 4.5, 20_000),
        (50, 45.0, 10_000),
        (50, 48.0, 30_000),
    ):
        queue = Queueing(f"M/M/{servers} {arrival:g}", arrival, servers, requests)
        yield Row(queue, "sojourn", MMc(arrival, 1.0, servers).sojourn_s)
    for servers, load, requests in (
        (5, 4.0, 4_000),
        (10, 8.0, 8_000),
        (50, 45.0, 30_000),
        (50, 50.0, 7_000),
    ):
        queue = Queueing(f"M/M/{servers}/{servers} {load:g}", load, servers, requests, waiting=0)
        yield Row(queue, "lost", erlang_b(servers, load))


def _finite() -> Iterator[Row]:
    for arrival, servers, places, requests, filling in (
        (0.8, 1, 5, 24_000, 0.0),
        (6.0, 5, 10, 4_000, 0.0),
        (50.0, 50, 150, 30_000, 0.25),  # in 1,217 requests its start is forgotten by a factor e
        (60.0, 50, 10050, 90_000, 0.7),
    ):
        name = f"M/M/{servers}/{places} {arrival:g}"
        found = mmck(arrival, 1.0, servers, places)
        queue = Queueing(
            *(name, arrival, servers, requests),
            waiting=places - servers,
            filling=filling,
            effort=8 if places == 150 else 1,  # at full load, and seldom full
        )
        yield Row(queue, "lost", found.lost)
        yield Row(queue, "wait", found.wait_s)


def _general() -> Iterator[Row]:
    laws: dict[str, tuple[Distribution, int]] = {
        "M/D/1": (Constant(value=UNIT_S), 22_000),
        "M/E2/1": (Gamma(shape=2.0, scale=UNIT_S / 2), 46_000),
        "M/LN/1": (Lognormal(mean=UNIT_S, sigma=1.0), 20_000),
        "M/H2/1": (HYPER, 20_000),
    }
    for name, (law, requests) in laws.items():
        wait = pollaczek_khinchine(0.8 / UNIT_S, moments(law)) / UNIT_S
        yield Row(Queueing(f"{name} 0.8", 0.8, 1, requests, service=law), "sojourn", wait + 1)


def _impatient() -> Iterator[Row]:
    asked: list[tuple[Queueing, Abandonment]] = []
    for arrival, servers, mean, requests, filling in (
        (4.0, 5, 2.0, 19_000, 0.0),
        (6.0, 5, 2.0, 6_000, 0.0),
        (48.0, 50, 30.0, 20_000, 0.0),
        (100.0, 50, 30.0, 25_000, 0.84),  # 7 times the mean patience, by which it fills
    ):
        queue = Queueing(
            *(f"M/M/{servers}+M({mean:g}) {arrival:g}", arrival, servers, requests),
            patience=exponential(1 / mean),
            filling=filling,
            effort=2 if arrival == 48 else 1,  # few leave
        )
        asked.append((queue, erlang_a(arrival, 1.0, servers, mean)))
    for arrival, servers, limit, requests, filling in (
        (5.0, 5, 1.0, 13_000, 0.0),
        (6.0, 5, 1.0, 4_000, 0.0),
        (55.0, 50, 1.0, 10_000, 0.0),
        (60.0, 50, 30.0, 15_000, 0.8),  # 1,800 wait in the end, and ten more each service
    ):
        queue = Queueing(
            *(f"M/M/{servers}+D({limit:g}) {arrival:g}", arrival, servers, requests),
            patience=fixed(limit),
            filling=filling,
        )
        asked.append((queue, mmc_d(arrival, 1.0, servers, limit)))
    for queue, found in asked:
        yield Row(queue, "lost", found.p_abandon)
        yield Row(queue, "wait of all", found.wait_s)
