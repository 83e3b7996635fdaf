"""What is asked of the planner, read and checked to the last value before anything runs."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness.errors import InputError
from harness.experiments.plan.goal import Goal, parse_goal, parse_promise, promises_of, settings_of
from harness.experiments.plan.knobs import KEYS, Configuration, Knob, configurations, parse_knob
from harness.experiments.points import prepared_for
from harness.experiments.run import engine_named
from harness.scenario.load import BASE, load_file
from harness.scenario.model import Scenario
from harness.scenario.slo import Bound


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be found, among what.

    Attributes:
        path: of the scenario.
        variant: of it.
        scenario: the variant with the work that the goals ask for.
        goals: as given.
        bounds: every promise that must hold.
        knobs: what may be changed.
        configurations: every way to set them.
        engine: which makes the runs.
        sets: what is set for all, the goals' own included.
    """

    path: Path
    variant: str
    scenario: Scenario
    goals: tuple[Goal, ...]
    bounds: tuple[Bound, ...]
    knobs: tuple[Knob, ...]
    configurations: tuple[Configuration, ...]
    engine: str
    sets: tuple[str, ...]

    @property
    def notes(self) -> list[str]:
        """What a reader should know of how it was asked."""
        if not any(knob.name == KEYS for knob in self.knobs):
            return []
        note = (
            "the pipeline sends one key: n keys stand for n times the provider's limits per key, "
            "as they are where the keys are used in turn"
        )
        return [note]


def ask(
    path: Path,
    *,
    goals: Sequence[str] = (),
    slo: Sequence[str] = (),
    over: Sequence[str] = (),
    sets: Sequence[str] = (),
    variant: str = BASE,
    engine: str = "sim",
    seed: int | None = None,
) -> Question:
    """Read a question.

    Args:
        path: of the scenario.
        goals: such as `5000 reviews in 600 s`; see `parse_goal`.
        slo: such as `timeout_rate<=0.001`.
        over: such as `pipeline.concurrency=5,10,20`; see `parse_knob`. None: as the file has it.
        sets: `dotted.key=value`, as for `harness run --set`.
        variant: of the scenario.
        engine: which makes the runs.
        seed: the first one; None is the scenario's.

    Raises:
        InputError: anything of it is not understood, or does not fit.
    """
    engine_named(engine)
    plain = load_file(path, sets, variant).resolve(variant)
    read = tuple(parse_goal(text, plain.workload.kind) for text in goals)
    fixed = (*sets, *settings_of(read))
    file = load_file(path, fixed, variant)
    scenario = file.resolve(variant)
    bounds = promises_of(scenario.slo, read, [parse_promise(text) for text in slo])
    knobs = tuple(parse_knob(text, scenario.upstream.throttle) for text in over)
    first = scenario.seed if seed is None else seed
    found = configurations(file, variant, knobs, engine=engine, seed=first)
    _check_work(read, scenario, found[0])
    return Question(
        path=path,
        variant=variant,
        scenario=scenario,
        goals=read,
        bounds=bounds,
        knobs=knobs,
        configurations=tuple(found),
        engine=engine,
        sets=fixed,
    )


def _check_work(goals: Sequence[Goal], scenario: Scenario, one: Configuration) -> None:
    """A goal of more reviews than the corpus has is not what would be run."""
    there = len(prepared_for(one.task).items)
    wanted = scenario.workload.reviews
    if any(goal.settings for goal in goals) and there < wanted and _batch(scenario):
        text = next(goal.text for goal in goals if goal.settings)
        raise InputError(
            f"--goal {text}: {scenario.workload.corpus} has {there:,} reviews; "
            "name a larger corpus, or synthetic"
        )


def _batch(scenario: Scenario) -> bool:
    return scenario.workload.kind == "batch"
