"""All engines on one scenario, and whether they say the same.

Theory of operation. Engines that were asked are compared in pairs, each with the one that it should
equal: `sim` with `virtual` to the last row, `virtual` with `live` within bands. What agrees need
not be right, and `witnesses` says what an agreement is worth.
"""

from collections.abc import Callable, Collection, Sequence

from harness.experiments.agree.checks import Agreement, Check, equal, near
from harness.experiments.agree.rows import Difference, Moment, first_difference
from harness.experiments.run import ENGINES, Run

__all__ = [
    "DEFAULT",
    "Agreement",
    "Check",
    "Difference",
    "Moment",
    "agreements",
    "comparable",
    "first_difference",
    "witnesses",
]

DEFAULT = tuple(name for name in ("theory", "sim", "virtual") if name in ENGINES)
"""Who is asked unless others are named: `live` takes as long as it says."""

_PAIRS: tuple[tuple[str, str, Callable[[Run, Run], Agreement]], ...] = (
    ("sim", "virtual", equal),
    ("virtual", "live", near),
)


def comparable(engines: Collection[str]) -> bool:
    """Whether there are two of them that can be compared."""
    return any(left in engines and right in engines for left, right, _ in _PAIRS)


def agreements(runs: Sequence[Run]) -> list[Agreement]:
    """What comes of the runs of one scenario, pair by pair of engines.

    Args:
        runs: of one variant and seed there is one run of each engine.
    """
    found: dict[tuple[str, int], dict[str, Run]] = {}
    for run in runs:
        found.setdefault((run.variant, run.seed), {})[run.engine] = run
    return [
        compare(group[left], group[right])
        for group in found.values()
        for left, right, compare in _PAIRS
        if left in group and right in group
    ]


def witnesses(runs: Sequence[Run], told: Sequence[Agreement]) -> list[str]:
    """What the agreements cannot see, and who was asked that could."""
    asked = {run.engine for run in runs}
    lines: list[str] = []
    if {"sim", "virtual"} <= asked:
        lines.append(
            "sim and virtual run the same policy and behaviour objects under the same weather: "
            "that they agree shows that the twin orders events as the code does. A mistake inside "
            "one of those objects both make alike, and this comparison cannot see it."
        )
    live = next((one for one in told if one.right == "live"), None)
    lines.append(
        "live, the witness against the virtual clock and the twin's order of events, was not "
        "asked: it takes real time, and comes with --engines virtual,live. It runs the same "
        "policy objects too."
        if live is None
        else "live was asked: the same objects on a clock and a network that are real."
    )
    return lines
