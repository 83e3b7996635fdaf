"""What a plan is to reach: goals in words, and the promises that must hold on the way."""

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from harness.errors import InputError
from harness.scenario.slo import Bound, parse_slo
from harness.scenario.workload import MOST
from mock_llm.strict import FieldError

_NUMBER = r"(\d[\d,_]*(?:\.\d+)?)"
_UNITS = {"s": 1.0, "sec": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0}
_UNITS |= {"hour": 3600.0}
_REVIEWS = re.compile(rf"{_NUMBER} *(?:reviews?|requests?) +in +{_NUMBER} *([a-z]+)")
_USERS = re.compile(rf"{_NUMBER} *users?")
_RATE = re.compile(rf"{_NUMBER} *(?:reviews?|requests?)? *(?:/ *s|per +s(?:econd)?)")
_SLO = re.compile(r"\s*([\w.]+)\s*((?:<=|>=|==|<|>).*)")
FORMS = '"5000 reviews in 600 s", "1000 users" or "40/s"'


class Goal(msgspec.Struct, frozen=True):
    """One goal.

    Attributes:
        text: as given.
        settings: `dotted.key=value` of the work that is to be done.
        promises: metric -> bound, as in an `[slo]` table.
    """

    text: str
    settings: tuple[str, ...] = ()
    promises: dict[str, str] = {}


def parse_goal(text: str, kind: str) -> Goal:
    """Read a goal: a number of reviews in a time, of users, or a rate.

    Args:
        text: such as `5000 reviews in 600 s` (or min, h), `1000 users`, `40/s`.
        kind: of the workload that it is a goal of.

    Raises:
        InputError: it is none of these, or of another kind of work.
    """
    said = " ".join(text.lower().split())
    if found := _REVIEWS.fullmatch(said):
        _check_kind(text, kind, "batch")
        count, end_s = _whole(text, found[1]), _number(found[2]) * _unit(text, found[3])
        if not end_s:
            raise InputError(f"--goal {text}: nothing is done in no time")
        return Goal(text, (f"workload.reviews={count}",), {"duration_s": f"<= {end_s:.12g}"})
    if found := _USERS.fullmatch(said):
        _check_kind(text, kind, "users")
        return Goal(text, (f"workload.users={_whole(text, found[1])}",))
    if found := _RATE.fullmatch(said):
        if not _number(found[1]):
            raise InputError(f"--goal {text}: whoever does nothing reaches that")
        return Goal(text, (), {"throughput_per_s": f">= {_number(found[1]):.12g}"})
    raise InputError(f"--goal {text!r}: not understood; say {FORMS}")


def _check_kind(text: str, kind: str, wanted: str) -> None:
    if kind != wanted:
        raise InputError(f'--goal {text}: is of a {wanted} workload, and workload.kind is "{kind}"')


def _number(text: str) -> float:
    return float(text.replace(",", "").replace("_", ""))


def _whole(text: str, number: str) -> int:
    value = _number(number)
    if value < 1 or value != int(value):
        raise InputError(f"--goal {text}: {number} is no number of reviews or users")
    if value > MOST:
        raise InputError(f"--goal {text}: {MOST:,} are the most")
    return int(value)


def _unit(text: str, unit: str) -> float:
    seconds = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"))
    if seconds is None:
        raise InputError(f"--goal {text}: {unit!r} is no unit of time; s, min and h are")
    return seconds


def parse_promise(text: str) -> tuple[str, str]:
    """Read a `--slo`: metric, operator and number, such as `timeout_rate<=0.001`.

    Raises:
        InputError: it is not so written, or there is no such metric.
    """
    found = _SLO.fullmatch(text)
    if found is None:
        raise InputError(
            f"--slo {text}: expected a metric and a bound, such as timeout_rate<=0.001"
        )
    try:
        parse_slo({found[1]: found[2]})
    except FieldError as error:
        raise error.at("--slo") from None
    return found[1], found[2].strip()


def promises_of(
    slo: Mapping[str, str], goals: Sequence[Goal], promises: Sequence[tuple[str, str]]
) -> tuple[Bound, ...]:
    """All that must hold: the scenario's promises, goals in their place, `--slo` in place of both.

    Where nothing is said of success, everything that may not time out must be answered: a job that
    is over because its requests failed has reached nothing.

    Raises:
        InputError: two goals, or two `--slo`, are of one metric; or nothing is asked at all.
    """
    asked: dict[str, str] = {}
    for goal in goals:
        _add(asked, goal.promises.items(), "--goal")
    said: dict[str, str] = {}
    _add(said, promises, "--slo")
    whole = {**slo, **asked, **said}
    if not goals and not whole:
        raise InputError(f"nothing to plan for: give a --goal, such as {FORMS}, or a --slo")
    bounds = parse_slo(whole)
    if not {"success_rate", "ok", "failed"} & whole.keys():
        late = (one.limit for one in bounds if one.metric == "timeout_rate" and "<" in one.op)
        bounds = (*bounds, Bound("success_rate", ">=", 1 - min(late, default=0.0)))
    return bounds


def _add(into: dict[str, str], pairs: Iterable[tuple[str, str]], option: str) -> None:
    for metric, bound in pairs:
        if metric in into:
            raise InputError(f"{option}: {metric} is bounded twice, {into[metric]} and {bound}")
        into[metric] = bound


def settings_of(goals: Sequence[Goal]) -> list[str]:
    """The settings of all goals together.

    Raises:
        InputError: two goals set the same.
    """
    made: dict[str, str] = {}
    for goal in goals:
        _add(made, [(one.partition("=")[0], one) for one in goal.settings], "--goal")
    return list(made.values())


def shown(bound: Bound) -> str:
    """A promise as it is told: `duration_s <= 600`."""
    return f"{bound.metric} {bound.op} {bound.limit:.6g}"
