"""Load tests made by hand: what users saw, what the service wrote down, and what the mock did."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rows import attempt

from harness.experiments.run import prepare_variant
from harness.records import Record
from harness.scenario.load import load_defaults
from loadtests.certificate import Certificate, Machine, Strain
from loadtests.reconcile import Reconciled, reconcile
from loadtests.results import Flown
from loadtests.sight import Asked
from mock_llm.histogram import Histogram
from mock_llm.ledger import Row

USERS = ('workload.kind="users"', "workload.duration_s=9", "workload.reviews=3")
USD = 0.0002
BEGAN_S = 1_000.0
ORIGIN_S = 990.0


class World(NamedTuple):
    """All that there is of one load test; records count from the service's start."""

    asked: list[Asked]
    records: list[Record]
    rows: list[Row]


def asked(key: str, at_s: float, **changes: Any) -> Asked:
    """A request that was sent 1 ms late and answered 1.01 s after it should have begun."""
    plain: dict[str, Any] = {
        "user": key.partition(".")[0],
        "kind": "review",
        "t_intended": BEGAN_S + at_s,
        "t_sent": BEGAN_S + at_s + 0.001,
        "t_end": BEGAN_S + at_s + 1.01,
        "status": 200,
        "outcome": "ok",
        "attempts": 1,
        "cost_usd": USD,
    }
    return Asked(key=key, **{**plain, **changes})


def record(key: str, at_s: float, number: int = 1, **changes: Any) -> Record:
    """The service's row of it, which came 3 ms after it should have begun."""
    since = BEGAN_S - ORIGIN_S + at_s + 0.003
    return attempt(key, number, since=since, **{"cost_usd": USD, **changes})


def row(key: str, at_s: float, number: int = 1, **changes: Any) -> Row:
    """The mock's row of it: meant to take 0.99 s after a transit of 0.5 ms, and 2 ms late."""
    arrived = BEGAN_S + at_s + 0.005
    plain: dict[str, Any] = {
        "attempt": str(number),
        "arrived_s": arrived,
        "admitted_s": arrived + 0.0005,
        "status": 200,
        "planned_first_token_s": 0.99,
        "planned_last_token_s": 0.99,
        "first_token_s": arrived + 0.0005 + 0.992,
        "ended": "complete",
        "billed_usd": USD,
    }
    return Row(key=key, **{**plain, **changes})


def world(keys: Sequence[str] = ("u0.0", "u1.0", "u0.1")) -> World:
    """A test in which all went well: a request a second."""
    places = list(enumerate(keys))
    return World(
        [asked(key, float(n)) for n, key in places],
        [record(key, float(n)) for n, key in places],
        [row(key, float(n)) for n, key in places],
    )


def counts_of(one: World, **more: Any) -> Reconciled:
    """Its three counts, held against each other."""
    return reconcile(one.asked, one.records, one.rows, **more)


def flown(one: World, sets: Sequence[str] = (), **changes: Any) -> Flown:
    """It, as what a judge is handed."""
    file = load_defaults(
        ['workload.kind="users"', "workload.duration_s=9", "workload.reviews=3", *sets], "base"
    )
    plain: dict[str, Any] = {
        "prepared": prepare_variant(file, "base"),
        "variant": "base",
        "seed": 1,
        "began_s": BEGAN_S,
        "took_s": 4.0,
        "asked": one.asked,
        "records": one.records,
        "origin_s": ORIGIN_S,
        "rows": one.rows,
    }
    return Flown(**{**plain, **changes})


def driver(*lags_s: float, **changes: Any) -> Strain:
    """A process with users in it."""
    lag = Histogram(counts={})
    for one in lags_s or (0.001,):
        lag.add(one)
    plain: dict[str, Any] = {"name": "generator", "drives": True, "lag": lag, "most_files": 1000}
    return Strain(**{**plain, **changes})


def certificate(*strains: Strain, machine: Machine | None = None, **more: Any) -> Certificate:
    """Of a calm test, but for what is given."""
    return Certificate.of(
        more.pop("asked", world().asked), strains or (driver(),), machine or Machine(), **more
    )
