"""A small provider to plan for, and a stand-in for the engine that answers by arithmetic."""

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.experiments.plan import Question, ask
from harness.experiments.points import Point, Task
from harness.scenario.slo import KNOWN_METRICS

SMALL = """
[workload]
reviews = 60
users = 5
[upstream.profile]
ttft = { kind = "lognormal", mean = 1.0, sigma = 0.5 }
[pipeline]
retries = 2
context = "none"
rate_limit = "none"
attempt_timeout_s = 20.0
[slo]
success_rate = ">= 1"
"""
Figures = Callable[[Task], dict[str, float]]


def question(
    folder: Path,
    *goals: str,
    over: Sequence[str] = (),
    slo: Sequence[str] = (),
    sets: Sequence[str] = (),
    text: str = SMALL,
) -> Question:
    """A question about the small provider."""
    path = folder / "small.toml"
    path.write_text(text)
    return ask(path, goals=goals, over=over, slo=slo, sets=sets)


def point(task: Task, **figures: float) -> Point:
    """A run with these figures, all others 0 but those of a run in which nothing failed."""
    plain = dict.fromkeys(KNOWN_METRICS, 0.0) | {"success_rate": 1.0, "requests": 60.0}
    told: dict[str, float | None] = {**plain, "attempts": 60.0, **figures}
    return Point(key=task.key, label=task.label, engine=task.engine, seed=task.seed, figures=told)


class Fake:
    """Makes runs by arithmetic, and remembers which.

    Attributes:
        asked: labels of the tasks, in the order in which they came.
    """

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self.asked: list[str] = []

    def __call__(self, tasks: Sequence[Task]) -> list[Point]:
        """The runs of a sweep."""
        self.asked += [task.label for task in tasks]
        return [point(task, **self._figures(task)) for task in tasks]
