"""What was to hold of a load test, and whether it did: one case each."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

COUNTS = "the counts differ"


class Case(NamedTuple):
    """One thing that was to hold.

    Attributes:
        name: what.
        state: "" when it holds, else the element that says how it does not.
        why: for a person.
    """

    name: str
    state: str = ""
    why: str = ""


def cases_of(report: Mapping[str, Any], agreement: Sequence[Mapping[str, Any]] = ()) -> list[Case]:
    """The certificate, the counts, every promise, and the prediction if there is one.

    What was measured by an INVALID run says nothing: then promises are skipped.
    """
    reasons = report["invalid_reasons"]
    counts = [why for why in reasons if why.startswith(COUNTS)]
    others = [why for why in reasons if not why.startswith(COUNTS)]
    return [
        Case("certificate", "error" if others else "", "; ".join(others)),
        Case("reconciliation", "error" if counts else "", "; ".join(counts)),
        *(_case(name, why, holds, report) for name, why, holds in _promises(report, agreement)),
    ]


def _promises(
    report: Mapping[str, Any], agreement: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str, bool]]:
    for check in report["slo"]["checks"]:
        value = check["value"]
        shown = "nothing was measured" if value is None else f"{value:.6g}"
        yield f"{check['metric']} {check['bound']}", shown, check["passed"]
    for one in agreement:
        shown = f"{one['live']:.4f} s, predicted {one['low']:.4f} to {one['high']:.4f} s"
        yield f"prediction of {one['figure']}", shown, one["inside"]


def _case(name: str, why: str, holds: bool, report: Mapping[str, Any]) -> Case:
    if not report["valid"]:
        return Case(name, "skipped", "the measurement is INVALID")
    return Case(name) if holds else Case(name, "failure", why)
