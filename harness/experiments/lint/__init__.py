"""What is probably not meant in a scenario, told before anything runs.

Theory of operation. `Case` works out bounds from the settings alone: how long a call takes at
least, how many can be under way, what is asked. Each rule is one function of it; the table below
names them all. A rule speaks only where its arithmetic leaves no doubt: a lint that cries wolf is
switched off.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from harness.engines.base import Prepared
from harness.experiments.lint import asked, limits, lines
from harness.experiments.lint.case import Case, Warn

__all__ = ["RULES", "Warn", "lint", "lint_lines"]

RULES: dict[str, Callable[[Case], Iterator[Warn]]] = {
    "too_slow": asked.too_slow,
    "overload": asked.overload,
    "limit_per_user": asked.limit_per_user,
    "throttled": asked.throttled,
    "deep_queue": lines.deep_queue,
    "vulnerable_band": limits.vulnerable_band,
    "no_time_limit": limits.no_time_limit,
    "long_time_limit": limits.long_time_limit,
    "ladder": limits.ladder,
    "out_of_patience": limits.out_of_patience,
    "no_pause": limits.no_pause,
    "slot_inside": lines.slot_inside,
    "slot_never": lines.slot_never,
    "small_pool": lines.small_pool,
    "send_all": lines.send_all,
    "hit_rate": asked.hit_rate,
    "over_again": asked.over_again,
}


def lint(prepared: Prepared) -> list[Warn]:
    """Everything that the rules have to say of a scenario and its variant, in their order."""
    case = Case(prepared)
    return [
        msgspec.structs.replace(found, rule=name)
        for name, rule in RULES.items()
        for found in rule(case)
    ]


def lint_lines(found: Mapping[str, Sequence[Warn]]) -> list[str]:
    """Warnings by variant as lines; what several variants share is told once."""
    shared: dict[Warn, list[str]] = {}
    for variant, warnings in found.items():
        for one in warnings:
            shared.setdefault(one, []).append(variant)
    return [
        f"{', '.join(variants)}: {one.key}: {one.text}. Try: {one.advice}"
        for one, variants in shared.items()
    ]
