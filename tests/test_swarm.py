"""Two hundred random worlds: what the virtual engine makes of each is one thing only.

`SWARM=200` asks for so many; CI takes fewer.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from swarm import World, world

from harness.experiments.agree import first_difference
from harness.experiments.run import Run, run_one

WORLDS = int(os.environ.get("SWARM", "40"))


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


def test_virtual_repeats() -> None:
    """Run again inside one process, a world gives the same rows, and nothing is lost in any."""
    for seed in range(0, WORLDS, 4):
        one = world(seed)
        with told(one):
            first, again = (flown(one, "virtual") for _ in range(2))
            assert first_difference(first.result.records, again.result.records) is None
            assert [why for why in first.report["invalid_reasons"] if "invariant" in why] == []
