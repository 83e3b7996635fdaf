"""How fast the twin is: against the virtual engine, by itself, and against bare SimPy.

Usage: python tests/benchmarks/twin.py [--requests N] [--rounds N]

Three figures from one run, for absolute speeds vary with the machine and with who else uses it:
attempts a second of the crisis with all its policies at 50 slots, in the twin and in the virtual
engine; and customers a second of a plain M/M/5 queue, in the twin (its service with five workers,
all else off: there is no second path through it) and in SimPy alone. The rounds alternate; what
is printed is the median of the rounds' ratios and the best of the speeds.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import simpy

from harness.engines.base import Engine, Prepared, prepare
from harness.engines.twin import run_in_twin
from harness.engines.virtual import run_on_virtual_clock
from harness.scenario.load import load_defaults, load_scenario
from mock_llm.distributions import Exponential, quantile_function
from mock_llm.rng import Keyed

SCENARIO = Path(__file__).parents[2] / "scenarios" / "timeout_crisis.toml"
SERVERS, RATE_PER_S = 5, 4.0
AIM_VIRTUAL, AIM_PER_S, AIM_SIMPY = 4.0, 15_000, 0.25
_OFF = """
workload.kind=arrivals workload.reviews=1 pipeline.attempt_timeout_s=none pipeline.retries=0
pipeline.context=none pipeline.rate_limit=none pipeline.instructions= upstream.keep_alive_s=none
pipeline.queue.size=1000000000 pipeline.queue.useful_only=false upstream.profile.output_tokens=1
"""


def crisis(requests: int) -> Prepared:
    """Every policy of the crisis, at 50 slots."""
    settings = {
        "workload.reviews": requests,
        "pipeline.concurrency": 50,
        "pipeline.rate_limit": 1_000_000,
    }
    return prepare(load_scenario(SCENARIO, [f"{key}={value}" for key, value in settings.items()]))


def queue(customers: int) -> Prepared:
    """M/M/5 at a load of .8, with nothing else."""
    settings = [
        *_OFF.split(),
        f"workload.duration_s={customers / RATE_PER_S}",
        f'workload.arrivals={{kind="poisson",rate_per_s={RATE_PER_S}}}',
        f"pipeline.workers={SERVERS}",
        'pipeline.router={kind="single",model="openai/gpt-4o-mini"}',
        'upstream.profile.ttft={kind="exponential",mean=1.0}',
    ]
    return prepare(load_defaults(settings).resolve())


def bare_queue(customers: int) -> int:
    """The same queue in SimPy alone, with the same keyed draws; returns who was served."""
    weather = Keyed(1)
    gap = quantile_function(Exponential(mean=1 / RATE_PER_S))
    service = quantile_function(Exponential(mean=1.0))
    gaps, services = weather.stream("gap"), weather.stream("service")
    served: list[tuple[float, float, float]] = []
    env = simpy.Environment()
    servers = simpy.Resource(env, SERVERS)

    def customer(number: int) -> Generator[simpy.Event, Any, None]:
        arrived = env.now
        with servers.request() as turn:
            yield turn
            began = env.now
            yield env.timeout(service(services(str(number), 0)))
        served.append((arrived, began, env.now))

    def source() -> Generator[simpy.Event, Any, None]:
        for number in range(customers):
            yield env.timeout(gap(gaps("", number)))
            env.process(customer(number))

    env.process(source())
    env.run()
    return len(served)


def per_s(run: Callable[[], int]) -> float:
    """How many of what it returns, a second of this process's time."""
    began = time.process_time()
    count = run()
    return count / (time.process_time() - began)


def rows(engine: Engine, prepared: Prepared) -> Callable[[], int]:
    """A run of an engine, which returns how many attempts there were."""
    return lambda: len(engine(prepared, seed=1).records)


def compare(one: Callable[[], int], other: Callable[[], int], rounds: int) -> tuple[float, ...]:
    """Best speed of each, and the median ratio of the first to the second."""
    pairs = [(per_s(one), per_s(other)) for _ in range(rounds)]
    best = [max(speeds) for speeds in zip(*pairs, strict=True)]
    return *best, statistics.median(mine / theirs for mine, theirs in pairs)


def main() -> None:
    """Print the three figures and what they aim at."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    full, plain = crisis(given.requests), queue(given.requests)
    twin, virtual, ratio = compare(
        rows(run_in_twin, full), rows(run_on_virtual_clock, full), given.rounds
    )
    print(f"twin / virtual    {ratio:8.1f} x  (aim {AIM_VIRTUAL:g}; virtual {virtual:,.0f}/s)")
    print(f"twin, full policy {twin:8,.0f} /s (aim {AIM_PER_S:,})")
    mine, bare, ratio = compare(
        rows(run_in_twin, plain), lambda: bare_queue(given.requests), given.rounds
    )
    print(f"M/M/5 / SimPy     {ratio:8.2f} x  (aim {AIM_SIMPY}; {mine:,.0f}/s, bare {bare:,.0f}/s)")


if __name__ == "__main__":
    main()
