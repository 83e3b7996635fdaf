"""The knobs of a plan, their values, and the configurations that they span."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import msgspec

from harness.errors import InputError
from harness.experiments.points import Task, task_of
from harness.scenario.load import ScenarioFile
from harness.scenario.model import Scenario
from harness.scenario.settings import Setting, parse_setting
from mock_llm.config import Throttle

KEYS = "keys"
"""The knob that stands for the limits of so many API keys."""

MOST_VALUES = 1000
MOST_CONFIGURATIONS = 10_000
_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})(?::(\d{1,9}))?")
_OPEN, _CLOSE = "[{", "]}"


class Choice(msgspec.Struct, frozen=True):
    """One value of a knob.

    Attributes:
        label: as it is told.
        settings: what it sets.
        value: a number, if it is one.
    """

    label: str
    settings: tuple[Setting, ...]
    value: Any


class Knob(msgspec.Struct, frozen=True):
    """One thing that may be changed, and to what."""

    name: str
    choices: tuple[Choice, ...]

    @property
    def numeric(self) -> bool:
        """Whether its values can be drawn along an axis: three numbers at least."""
        values = [choice.value for choice in self.choices]
        numbers = [one for one in values if isinstance(one, int | float)]
        return len(numbers) == len(values) >= 3 and not any(isinstance(v, bool) for v in values)


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """One way to set all the knobs.

    Attributes:
        index: in the order in which they were given.
        chosen: knob -> the value it has here.
        task: its run with the first seed.
    """

    index: int
    chosen: dict[str, Choice]
    task: Task

    @property
    def label(self) -> str:
        """What is set, as it is told."""
        return self.task.label

    @property
    def scenario(self) -> Scenario:
        """What it comes to."""
        return self.task.scenario

    @property
    def slots(self) -> int:
        """Calls that it makes at once, at most: slots of a batch, workers of a service."""
        return slots_of(self.scenario)

    @property
    def resources(self) -> tuple[int, int, int, int]:
        """What it takes besides dollars, the dearest first: API keys, slots, retries, its place."""
        keys = self.chosen[KEYS].value if KEYS in self.chosen else 1
        return (keys, self.slots, self.scenario.pipeline.retries, self.index)

    def flags(self) -> list[str]:
        """The options of `harness run` that make it."""
        texts = (one.text for choice in self.chosen.values() for one in choice.settings)
        return [text.replace("--over ", "", 1) for text in texts]


def slots_of(scenario: Scenario) -> int:
    """Slots of a batch, workers of a service; of adaptive ones the most there may be."""
    pipe = scenario.pipeline
    if scenario.workload.kind != "batch":
        return pipe.workers
    return pipe.adaptive.highest if pipe.adaptive else pipe.concurrency


def parse_knob(text: str, throttle: Throttle) -> Knob:
    """Read an `--over`: `dotted.key=` and values with commas between, or ranges as `0-3`, `5-50:5`.

    Args:
        text: as typed; `keys=1-3` is not a key of a scenario, but stands for so many API keys.
        throttle: of the provider, for `keys`.

    Raises:
        InputError: there is no value, too many, one twice, or no such limit.
    """
    name, equals, rest = text.partition("=")
    name = name.strip()
    words = list(_values(f"--over {text}", rest)) if equals else []
    if not words or not all(words):
        raise InputError(f"--over {text}: expected dotted.key=value,value,... or a range as 0-3")
    if len(set(words)) < len(words):
        raise InputError(f"--over {text}: names a value twice")
    if name == KEYS:
        return Knob(KEYS, tuple(_keys(text, words, throttle)))
    return Knob(name, tuple(_choice(name, word) for word in words))


def _values(option: str, text: str) -> Iterator[str]:
    """The values, parted at commas outside of brackets, with ranges written out."""
    for word in _parted(text):
        found = _RANGE.fullmatch(word)
        if found is None:
            yield word
            continue
        first, last, step = int(found[1]), int(found[2]), int(found[3] or 1)
        if last < first or not step:
            why = "the smaller number comes first" if step else "a step is 1 at least"
            raise InputError(f"{option}: {word} is an empty range: {why}")
        if (last - first) // step >= MOST_VALUES:
            raise InputError(f"{option}: {word} has more than {MOST_VALUES:,} values: give a step")
        yield from map(str, range(first, last + 1, step))


def _parted(text: str) -> Iterator[str]:
    depth, quote, word = 0, "", ""
    for sign in text:
        if quote or sign in "'\"":
            quote = "" if sign == quote else quote or sign
        depth += (sign in _OPEN) - (sign in _CLOSE) if not quote else 0
        if sign == "," and not depth and not quote:
            yield word.strip()
            word = ""
        else:
            word += sign
    yield word.strip()


def _choice(name: str, word: str) -> Choice:
    setting = _setting(f"{name}={word}")
    return Choice(f"{name.rpartition('.')[2]}={word}", (setting,), setting.value)


def _setting(text: str) -> Setting:
    """A setting that is blamed on `--over`.

    Raises:
        InputError: see `parse_setting`.
    """
    try:
        made = parse_setting(text)
    except InputError as error:
        raise InputError(str(error).replace("--set", "--over", 1)) from None
    return msgspec.structs.replace(made, text=made.text.replace("--set", "--over", 1))


def _keys(text: str, words: Sequence[str], throttle: Throttle) -> Iterator[Choice]:
    """So many keys, used in turn, have so many times the limits of one."""
    limits = {
        name: limit
        for name in ("requests_per_min", "tokens_per_min", "concurrent")
        if (limit := getattr(throttle, name)) is not None
    }
    if not limits:
        raise InputError(f"--over {text}: no key has a limit here; see [upstream.throttle]")
    if throttle.per == "account":
        raise InputError(
            f"--over {text}: the limits are for the account (upstream.throttle.per), so that more "
            "keys are worth nothing"
        )
    for word in words:
        if not word.isdecimal() or not int(word):
            raise InputError(f"--over {text}: {word} is no number of keys")
        each = [
            _setting(f"upstream.throttle.{name}={limit * int(word)}")
            for name, limit in limits.items()
        ]
        yield Choice(f"keys={word}", tuple(each), int(word))


def configurations(
    file: ScenarioFile, variant: str, knobs: Sequence[Knob], *, engine: str, seed: int
) -> list[Configuration]:
    """Every way to set the knobs, in the order of their values, the last knob first to change.

    Raises:
        InputError: there are too many, a knob is named twice, or a value does not fit.
    """
    _check(knobs)
    found: list[Configuration] = []
    for index, chosen in enumerate(product(*(knob.choices for knob in knobs))):
        settings = [one for choice in chosen for one in choice.settings]
        label = ", ".join(choice.label for choice in chosen) or variant
        task = task_of(file, variant, settings, engine=engine, seed=seed, label=label)
        named: Mapping[str, Choice] = dict(zip((k.name for k in knobs), chosen, strict=True))
        found.append(Configuration(index=index, chosen=dict(named), task=task))
    return found


def _check(knobs: Sequence[Knob]) -> None:
    names = [knob.name for knob in knobs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--over {name}: named twice; give all of its values at once")
    count = 1
    for knob in knobs:
        count *= len(knob.choices)
    if count > MOST_CONFIGURATIONS:
        raise InputError(f"--over: {count:,} configurations; {MOST_CONFIGURATIONS:,} are the most")
