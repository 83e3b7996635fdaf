"""Numbers within limits."""

from fractions import Fraction
from itertools import chain
from math import ceil, floor, inf, isfinite, nextafter

from mock_llm.structured.matches import is_multiple
from mock_llm.structured.merge import common_step
from mock_llm.structured.schema import Schema, Unsatisfiable

_SPAN = 100
_TRIES = 500


def number(schema: Schema, uniform: float, *, whole: bool) -> int | float:
    """Return a number that the schema allows: 0 to 100 where it leaves the choice.

    Raises:
        Unsatisfiable: there is none, or none was found.
    """
    low, high = _window(schema)
    step = schema.multiple_of
    if whole:
        step = 1 if step is None else common_step(1, step)
    if step is None:
        return _between(low, high, uniform, schema)
    return _stepped(low, high, step, uniform, schema)


def _window(schema: Schema) -> tuple[float, float]:
    """Closed limits; one that excludes itself is moved by as little as there is."""
    lows = [schema.minimum, _beyond(schema.exclusive_minimum, inf)]
    highs = [schema.maximum, _beyond(schema.exclusive_maximum, -inf)]
    low = max((one for one in lows if one is not None), default=None)
    high = min((one for one in highs if one is not None), default=None)
    if low is not None and high is not None and low > high:
        raise Unsatisfiable(f"no number is from {low} to {high}")
    if low is None:
        low = 0 if high is None or high >= 0 else high - _SPAN
    if high is None:
        high = max(_SPAN, low + _SPAN) if low < _SPAN else low + _SPAN * max(1, abs(low))
    return low, high


def _beyond(limit: float | None, towards: float) -> float | None:
    return None if limit is None else nextafter(limit, towards)


def _between(low: float, high: float, uniform: float, schema: Schema) -> float:
    drawn = low + uniform * (high - low)
    rounded = round(drawn, 2) if isfinite(drawn) else low
    for value in (rounded, drawn, low, high):
        if isfinite(value) and low <= value <= high:
            return value
    raise Unsatisfiable(f"no number was found for {schema.minimum} to {schema.maximum}")


def _stepped(low: float, high: float, step: float, uniform: float, schema: Schema) -> int | float:
    if step <= 0:
        raise Unsatisfiable("multipleOf has to be above zero")
    exact = Fraction(str(step))
    first, last = ceil(Fraction(low) / exact), floor(Fraction(high) / exact)
    drawn = first + int(uniform * (last - first + 1))
    near = chain(range(drawn, last + 1), range(drawn - 1, first - 1, -1))
    wanted = step if schema.multiple_of is None else schema.multiple_of
    for _, times in zip(range(_TRIES), near, strict=False):
        value = times * exact
        found = value.numerator if value.denominator == 1 else float(value)
        if low <= found <= high and is_multiple(found, wanted):
            return found
    raise Unsatisfiable(f"no multiple of {schema.multiple_of or step} from {low} to {high}")
