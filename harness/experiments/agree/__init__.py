"""All engines on one scenario, and whether they say the same.

Theory of operation. Engines that were asked are compared in pairs, each with the one that it should
equal: `sim` with `virtual` to the last row, `virtual` with `live` within bands, `theory` with
replications by the fastest there is. What agrees need not be right, and `witnesses` says what an
agreement is worth.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

from harness.engines.base import Prepared
from harness.experiments.agree.checks import Agreement, Check, equal, near
from harness.experiments.agree.closed import REPLICATIONS, against_theory, says_something
from harness.experiments.agree.rows import Difference, Moment, first_difference
from harness.experiments.run import SIM, THEORY, Run, run_one

__all__ = [
    "DEFAULT",
    "Agreement",
    "Check",
    "Difference",
    "Moment",
    "agreements",
    "comparable",
    "first_difference",
    "fly_all",
    "witnesses",
]

_REPEATED = (SIM, "virtual")
"""Who repeats a run for theory's sake, the fastest first."""

DEFAULT = (THEORY, SIM, "virtual")
"""Who is asked unless others are named: `live` takes as long as it says."""

_PAIRS: tuple[tuple[str, str, Callable[[Run, Run], Agreement]], ...] = (
    ("sim", "virtual", equal),
    ("virtual", "live", near),
)


def comparable(engines: Collection[str]) -> bool:
    """Whether there are two of them that can be compared."""
    pairs = [(left, right) for left, right, _ in _PAIRS]
    pairs += [(THEORY, one) for one in _REPEATED]
    return any(left in engines and right in engines for left, right in pairs)


def fly_all(
    prepared: Prepared, *, variant: str, expect: str, engines: Sequence[str], seeds: Sequence[int]
) -> Iterator[Run]:
    """Run a variant on all engines, and once more for each replication that theory needs.

    Args:
        prepared: the variant.
        variant: its name.
        expect: see `run_one`.
        engines: by name; theory runs once.
        seeds: of every engine; for theory the engine that repeats goes on behind the last.

    Raises:
        InputError: an engine refuses it.
    """
    fly = partial(run_one, prepared, variant=variant, expect=expect)
    theory = fly(engine=THEORY, seed=seeds[0]) if THEORY in engines else None
    if theory is not None:
        yield theory
    for engine in engines:
        for seed in seeds if engine != THEORY else ():
            yield fly(engine=engine, seed=seed)
    again = next((one for one in _REPEATED if one in engines), None)
    if theory is not None and again is not None and says_something(theory):
        for n in range(REPLICATIONS - len(seeds)):
            yield fly(engine=again, seed=seeds[-1] + 1 + n)


def agreements(runs: Sequence[Run]) -> list[Agreement]:
    """What comes of the runs of one scenario, pair by pair of engines.

    Args:
        runs: of one variant and seed there is one run of each engine.
    """
    found: dict[tuple[str, int], dict[str, Run]] = {}
    for run in runs:
        found.setdefault((run.variant, run.seed), {})[run.engine] = run
    told = [
        compare(group[left], group[right])
        for group in found.values()
        for left, right, compare in _PAIRS
        if left in group and right in group
    ]
    closed = {run.variant: run for run in runs if run.engine == THEORY}
    for variant, theory in closed.items():
        for engine in _REPEATED:
            again = [run for run in runs if (run.variant, run.engine) == (variant, engine)]
            if again:
                told.append(against_theory(theory, again))
                break
    return told


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
    lines += _closed_forms([one for one in told if one.left == THEORY])
    lines.append(_live("live" in asked, [one for one in told if one.right == "live"]))
    return lines


_LITTLE = "closed forms share the scenario and its laws with the code, and nothing that decides"


def _closed_forms(told: Sequence[Agreement]) -> Iterator[str]:
    """What closed forms, the witness that shares the least, had to say."""
    checks = [check for one in told for check in one.checks]
    judged = [check for check in checks if check.agreed is not None]
    if not told:
        yield f"{_LITTLE}; they were not asked: --engines theory,sim"
    elif not judged:
        yield f"{_LITTLE}; none that is exact or a bound could be held against replications here"
    else:
        held = sum(check.agreed is True for check in judged)
        yield (
            f"{_LITTLE}: of {len(judged)} figures that are exact or a bound, replications bear out "
            f"{held}; approximations get no verdict"
        )


def _live(asked: bool, told: Sequence[Agreement]) -> str:
    """What the real clock, the witness against the virtual one, had to say."""
    if not asked:
        return (
            "live, the witness against the virtual clock and the twin's order of events, was not "
            "asked: it takes real time, and comes with --engines virtual,live. It runs the same "
            "policy objects too."
        )
    judged = [one for one in told if any(check.agreed is not None for check in one.checks)]
    if not judged:
        return "live was asked, and is no witness: its run is INVALID, or virtual was not asked"
    return (
        "live was asked: the same objects on a clock and a network that are real. It bears virtual "
        f"out in {sum(one.agreed for one in judged)} of {len(judged)} comparisons"
    )
