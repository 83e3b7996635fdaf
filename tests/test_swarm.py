"""Two hundred random worlds: the twin makes of each what the code makes of it, to the last row.

`SWARM=N` asks for so many, other ones than those of every day when `SWARM_FROM` says so.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from swarm import NETWORK, World, world

from harness.errors import InputError
from harness.experiments.agree import agreements, first_difference
from harness.experiments.run import Run, run_one

WORLDS = int(os.environ.get("SWARM", "200"))
FIRST = int(os.environ.get("SWARM_FROM", "0"))
HANDFUL = 25


@contextmanager
def told(one: World) -> Iterator[None]:
    """With a failure the world that has it."""
    try:
        yield
    except BaseException as error:
        error.add_note(one.told())
        raise


def flown(one: World, engine: str) -> Run:
    """A world, run once."""
    prepared = one.prepared()
    seed = prepared.scenario.seed
    return run_one(prepared, variant="base", expect="pass", engine=engine, seed=seed)


def models(one: World) -> bool:
    """Whether the twin models a world: a network that is none has no wires to break."""
    faults = one.chosen["upstream.faults"].values()
    return not NETWORK & {fault["kind"] for fault in faults}


@pytest.mark.parametrize("first", range(FIRST, FIRST + WORLDS, HANDFUL))
def test_sim_is_virtual(first: int) -> None:
    """In any world both engines have the same requests, outcomes and times, and lose nothing."""
    for seed in range(first, min(first + HANDFUL, FIRST + WORLDS)):
        one = world(seed)
        with told(one):
            if not models(one):
                continue
            runs = [flown(one, engine) for engine in ("sim", "virtual")]
            (found,) = agreements(runs)
            assert found.first_difference is None
            assert [check for check in found.checks if not check.agreed] == []
            for run in runs:
                lost = [why for why in run.report["invalid_reasons"] if "invariant" in why]
                assert lost == []


def test_virtual_repeats() -> None:
    """Run again inside one process, a world gives the same rows."""
    for seed in range(FIRST, FIRST + 10):
        one = world(seed)
        with told(one):
            first, again = (flown(one, "virtual").result.records for _ in range(2))
            assert first_difference(first, again) is None


def test_a_world_is_told_as_it_is() -> None:
    """A world told as TOML is that world, so that a failure can be run again from its text."""
    one = world(7)
    assert one.told() == world(7).told()
    assert one.told() != world(8).told()
    assert "# swarm seed 7" in one.told()


def test_what_the_twin_lacks_it_refuses() -> None:
    """A world with what the twin does not model is refused in one line, not simulated without."""
    lacking = next(one for one in map(world, range(200)) if not models(one))
    with pytest.raises(InputError, match=r"--engine sim: does not model upstream\.faults"):
        flown(lacking, "sim")
