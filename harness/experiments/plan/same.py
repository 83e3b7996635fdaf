"""Runs that another one speaks for to the bit are not made."""

from collections.abc import Sequence

import msgspec

from harness.experiments.plan.search import Sweep
from harness.experiments.points import Point, Task


class Sharing:
    """Makes runs, but none of which it is known what it would be.

    A limit of retries acts on a call that has failed so often, and ends its request without an
    answer. So where all requests of a run were answered, that limit never acted, and with a higher
    one the same weather makes the same run.

    Args:
        sweep: makes those that are left.

    Attributes:
        spared: runs that were not made.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._answered: dict[str, tuple[int, Point]] = {}
        self.spared = 0

    def __call__(self, tasks: Sequence[Task]) -> list[Point]:
        """The runs of all tasks, in order; see `executors.sweep`."""
        found: dict[str, Point] = {}
        left = sorted({task.key: task for task in tasks}.values(), key=_retries)
        while left:
            todo: dict[str, Task] = {}
            for task in left:
                alike = _but_for_retries(task)
                retries, point = self._answered.get(alike, (_retries(task) + 1, None))
                if point is not None and retries <= _retries(task):
                    named = msgspec.structs.replace(point, key=task.key, label=task.label)
                    found[task.key] = named
                    self.spared += point.key != task.key
                else:
                    todo.setdefault(alike, task)
            for (alike, task), point in zip(
                todo.items(), self._sweep([*todo.values()]), strict=True
            ):
                found[task.key] = point
                if not point.stopped and point.figures["ok"] == point.figures["requests"]:
                    self._answered[alike] = _retries(task), point
            left = [task for task in left if task.key not in found]
        return [found[task.key] for task in tasks]


def _retries(task: Task) -> int:
    return task.scenario.pipeline.retries


def _but_for_retries(task: Task) -> str:
    """What names a run, whatever its retries."""
    pipeline = msgspec.structs.replace(task.scenario.pipeline, retries=0)
    scenario = msgspec.structs.replace(task.scenario, pipeline=pipeline)
    return msgspec.structs.replace(task, scenario=scenario).key
