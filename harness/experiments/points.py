"""One run of a sweep: what it takes, what is kept of it, and the function that makes it.

A task says everything that its result depends on, so that it can be run in any process, on any
machine, and its key names the result for good.
"""

import gc
import threading
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import msgspec

from harness.engines.base import CORPUS_SEED, Prepared, prepare
from harness.experiments.journalled import digest_of, product_version
from harness.experiments.reports import doubts_of, figures_of
from harness.experiments.run import engine_named
from harness.scenario.load import ScenarioFile
from harness.scenario.model import Scenario
from harness.scenario.pipeline import Pipeline, Queue
from harness.scenario.settings import Setting
from harness.scenario.slo import KNOWN_METRICS
from mock_llm.config import Throttle

_ONE_RUN = threading.Lock()
"""Engines have a process for themselves: a cluster's worker with many threads gains nothing."""


class Task(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One run that is to be made.

    Attributes:
        scenario: resolved, with all that is changed in it.
        engine: which one runs it.
        seed: of its weather.
        label: what is changed, for whoever reads the results.
        base: folder beside which a corpus is looked for.
        corpus: digest of a corpus file's content: another content makes another run.
    """

    scenario: Scenario
    engine: str = "sim"
    seed: int = 1
    label: str = ""
    base: str = "."
    corpus: str = ""

    @cached_property
    def key(self) -> str:
        """Names the run: the same settings, engine, seed and version have the same."""
        one = self.scenario
        told = [one.workload, one.upstream, one.pipeline, self.engine, self.seed, self.corpus]
        return digest_of([product_version(), *told])


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One run that was made.

    Attributes:
        key: of its task.
        label: likewise.
        engine: likewise.
        seed: likewise.
        figures: metric -> value, of every metric that can be promised.
        stopped: why the run ended before its work did, or None.
        invalid: why it says nothing; empty when it is sound.
        wall_s: wall-clock seconds of the engine.
    """

    key: str
    label: str
    engine: str
    seed: int
    figures: dict[str, float | None]
    stopped: str | None = None
    invalid: tuple[str, ...] = ()
    wall_s: float = 0.0


def task_of(
    file: ScenarioFile,
    variant: str,
    settings: Sequence[Setting] = (),
    *,
    engine: str = "sim",
    seed: int = 1,
    label: str = "",
) -> Task:
    """The run of a scenario's variant with some settings changed.

    Raises:
        InputError: a setting does not fit.
    """
    changed = msgspec.structs.replace(file, settings=(*file.settings, *settings))
    scenario = msgspec.structs.replace(changed.resolve(variant), variants={})
    base = str(Path(file.where).parent)
    corpus = _content(scenario.workload.corpus, base)
    return Task(scenario=scenario, engine=engine, seed=seed, label=label, base=base, corpus=corpus)


def _content(corpus: str, base: str) -> str:
    """What a corpus file says of its content, cheaply; nothing of a corpus that is no file."""
    for path in (Path(corpus), Path(base) / corpus):
        if path.is_file():
            facts = path.stat()
            return f"{facts.st_size}-{facts.st_mtime_ns}"
    return ""


def measure(task: Task) -> Point:
    """Make one run; what any executor is given.

    Raises:
        InputError: the corpus, a model without a price, or what the engine cannot do.
    """
    with _ONE_RUN:
        prepared = prepared_for(task)
        result = engine_named(task.engine)(prepared, seed=task.seed)
        figures: dict[str, Any] = figures_of(prepared, result)
        return Point(
            key=task.key,
            label=task.label,
            engine=task.engine,
            seed=task.seed,
            figures={name: _at(figures, name) for name in KNOWN_METRICS},
            stopped=result.stopped,
            invalid=tuple(doubts_of(prepared, result)),
            wall_s=result.wall_s,
        )


def prepared_for(task: Task) -> Prepared:
    """Everything that precedes the first call; shared by tasks that differ in knobs alone.

    Raises:
        InputError: the corpus, or a model without a price.
    """
    one, plain = task.scenario, Pipeline()
    # What the reading, routing and pricing of a corpus does not look at is as it is by default.
    same = {
        key: getattr(plain, key)
        for key in ("concurrency", "workers", "retries", "slot", "attempt_timeout_s", "barrier")
    }
    pipeline = msgspec.structs.replace(one.pipeline, **same, queue=Queue())
    upstream = msgspec.structs.replace(one.upstream, throttle=Throttle(), capacity=None)
    common = msgspec.structs.replace(one, pipeline=pipeline, upstream=upstream, slo={})
    prepared = _prepared(msgspec.json.encode(common), task.base, task.corpus, CORPUS_SEED)
    return msgspec.structs.replace(prepared, scenario=one)


@lru_cache(maxsize=8)
def _prepared(scenario: bytes, base: str, _corpus: str, _seed: int) -> Prepared:
    prepared = prepare(msgspec.json.decode(scenario, type=Scenario), base=Path(base))
    gc.freeze()  # else the corpus is looked through at every collection: a third of a run's time
    return prepared


def _at(figures: dict[str, Any], metric: str) -> float | None:
    value: Any = figures
    for part in metric.split("."):
        value = value[part]
    return None if value is None else float(value)
