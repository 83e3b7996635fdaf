"""The harness from Python, in one function: a scenario in, runs out.

runs = fly(Path("scenarios/timeout_crisis.toml"), "pipeline.concurrency=10", variant="after")
print(runs[0].report["throughput_per_s"])
"""

from collections.abc import Iterable
from pathlib import Path

from harness.experiments.run import Run, prepare_variant, run_one
from harness.scenario.load import BASE, load_file


def fly(
    scenario: Path,
    *sets: str,
    variant: str = BASE,
    engine: str = "sim",
    seeds: Iterable[int] = (1,),
) -> list[Run]:
    """Run a scenario once for each seed; nothing is written.

    Args:
        scenario: its file.
        sets: overrides, `dotted.key=value`, as of `--set`.
        variant: its name.
        engine: which one runs it.
        seeds: of the weather.

    Raises:
        InputError: the scenario, an override or the engine is not what it should be.
        KeyboardInterrupt: Ctrl-C or SIGTERM; what a run had until then is nobody's result.
    """
    file = load_file(scenario, sets, variant)
    prepared = prepare_variant(file, variant, scenario.parent)
    expect = file.variant(variant).expect
    runs = []
    for seed in seeds:
        one = run_one(prepared, variant=variant, expect=expect, engine=engine, seed=seed)
        if one.result.stopped == "interrupted":
            raise KeyboardInterrupt
        runs.append(one)
    return runs
