"""The twin says what the code says: same requests, same outcomes, same times, to the bit."""

import gc
from typing import Any

import msgspec
import pytest
from test_fault_client import VERDICTS
from twins import SCENARIOS, both, scenario, told

from harness.engines.base import prepare
from harness.engines.twin import run_in_twin
from harness.errors import InputError
from harness.pipeline.journal import Replayed
from harness.scenario.load import load_file
from harness.scenario.model import Scenario
from mock_llm.config import Recordings, Throttle
from mock_llm.faults import DnsFailure, HangBeforeHeaders

CRISIS = load_file(SCENARIOS / "timeout_crisis.toml").names()


def changed(one: Scenario, table: str, **keys: Any) -> Scenario:
    """A scenario with some keys of a table replaced."""
    part = msgspec.structs.replace(getattr(one, table), **keys)
    return msgspec.structs.replace(one, **{table: part})


@pytest.mark.parametrize("variant", CRISIS)
def test_twin_is_the_virtual_run_of_the_crisis(variant: str) -> None:
    """Every variant of the crisis has the same rows, labels, money and end in both engines."""
    simulated, virtual = both(scenario("timeout_crisis", variant, "workload.reviews=120"))
    assert simulated == virtual


@pytest.mark.parametrize("stream", [False, True])
def test_twin_reads_every_fault_as_the_client_does(stream: bool) -> None:
    """All faults at once, on whole answers and on streams, end alike in both engines."""
    faults = {
        f"fault{n}": type(fault)(rate=0.04)
        for n, (fault, *_) in enumerate(VERDICTS)
        if not isinstance(fault, DnsFailure)
    }
    one = scenario("timeout_crisis", "after", "workload.reviews=150", "upstream.profile.itl=0.02")
    one = changed(one, "upstream", faults=faults)
    one = changed(one, "pipeline", stream=stream, stall_s=2.0 if stream else None)
    simulated, virtual = both(one)
    assert simulated == virtual
    assert len({row.error for row in simulated["records"]}) > 12


def test_twin_meets_a_tight_provider_as_the_client_does() -> None:
    """Limits, credits and slots are given back at the same moments, whoever leaves when."""
    one = scenario(
        "timeout_crisis",
        "after_storm",
        "workload.reviews=120",
        "upstream.capacity.slots=3",
        "upstream.capacity.full_speed=2",
        "upstream.credits_usd=1.0",
        "pipeline.attempt_timeout_s=4",
        "pipeline.concurrency=8",
        "pipeline.pool_limit=6",
    )
    throttle = Throttle(concurrent=6, tokens_per_min=60_000)
    simulated, virtual = both(changed(one, "upstream", throttle=throttle))
    assert simulated == virtual
    assert {"http_429", "attempt_timeout"} <= {row.error for row in simulated["records"]}


def test_answers_told_without_bytes_are_those_read_from_bytes() -> None:
    """The short way of plain answers, and the mock's own bytes through the client's parsers."""
    one = scenario("timeout_crisis", "after_storm", "workload.reviews=150")
    narrow = changed(one, "pipeline", max_answer_bytes=100_000)  # no answer is as long
    assert _told(narrow) == _told(one)


def cycles(requests: int) -> int:
    """Objects of a run that only the garbage collector finds."""
    one = prepare(scenario("timeout_crisis", "after", f"workload.reviews={requests}"))
    gc.collect()
    gc.disable()
    try:
        run_in_twin(one, seed=1)
        return gc.collect()
    finally:
        gc.enable()


def test_requests_leave_nothing_to_the_garbage_collector() -> None:
    """What a request was made of goes when it ends, for cycles would cost a tenth of a run."""
    # What is left is the run's own: of a request no more than what is known of its text.
    assert cycles(600) - cycles(200) < 2 * 400


def test_another_seed_is_another_run() -> None:
    """The twin's weather is its seed's: the same again, and another one's differs."""
    one = scenario("timeout_crisis", "after", "workload.reviews=30")
    assert _told(one) == _told(one)
    assert _told(one, 2)["sha256"] != _told(one)["sha256"]


def _told(one: Scenario, seed: int = 1) -> dict[str, Any]:
    return told(run_in_twin(prepare(one, base=SCENARIOS), seed=seed))


def test_run_that_is_never_answered_is_invalid() -> None:
    """Without a time limit one silent hang ends the run, and it says so at the same moment."""
    one = scenario("timeout_crisis", "after", "workload.reviews=40", "pipeline.retries=0")
    one = changed(one, "upstream", faults={"hangs": HangBeforeHeaders(rate=0.1)})
    simulated, virtual = both(changed(one, "pipeline", attempt_timeout_s=None))
    assert simulated == virtual
    assert simulated["stopped"] == "never_answered"


@pytest.mark.parametrize(
    ("table", "keys", "named"),
    [
        ("upstream", {"keys": ("sk-or-v1-own",)}, "upstream.keys"),
        ("upstream", {"cassette": Recordings(file="none.jsonl")}, "upstream.cassette"),
        ("upstream", {"faults": {"names": DnsFailure(rate=0.1)}}, "upstream.faults.names"),
        ("pipeline", {"redis_url": "redis://127.0.0.1:1"}, "pipeline.redis_url"),
    ],
)
def test_what_is_not_modelled_is_refused(table: str, keys: dict[str, Any], named: str) -> None:
    """A scenario with something that the twin has not is refused in one line that names it."""
    one = changed(scenario("timeout_crisis", "after", "workload.reviews=5"), table, **keys)
    with pytest.raises(InputError, match=f"does not model {named}; --engine virtual does"):
        run_in_twin(prepare(one, base=SCENARIOS), seed=1)


def test_neither_targets_nor_journals_are_simulated() -> None:
    """A client of one's own needs sockets, and a simulation is not resumed."""
    prepared = prepare(scenario("timeout_crisis", "after", "workload.reviews=5"), base=SCENARIOS)

    async def target(_: object, __: str) -> None:
        """A client."""

    with pytest.raises(InputError, match="client of your own"):
        run_in_twin(prepared, seed=1, target=target)
    with pytest.raises(InputError, match="resumed"):
        run_in_twin(prepared, seed=1, replayed=Replayed())
