"""What a load test found, as CI servers read it: one case for each promise.

The format is that of Ant's JUnit task as Jenkins and GitLab take it:
https://github.com/jenkinsci/xunit-plugin/blob/master/src/main/resources/org/jenkinsci/plugins/xunit/types/model/xsd/junit-10.xsd
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

COUNTS = "the counts differ"
FAILED, INVALID = 1, 3


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


def exit_code(cases: Sequence[Case]) -> int:
    """0 when all holds, 3 when nothing can be said, 1 when a promise is broken."""
    states = {case.state for case in cases}
    return INVALID if "error" in states else FAILED if "failure" in states else 0


def junit(report: Mapping[str, Any], cases: Sequence[Case]) -> bytes:
    """The cases as a file."""
    name = f"{report['scenario']}.{report['variant']}"
    states = [case.state for case in cases]
    suite = ET.Element(
        "testsuite",
        name=name,
        tests=str(len(cases)),
        failures=str(states.count("failure")),
        errors=str(states.count("error")),
        skipped=str(states.count("skipped")),
        time=f"{report['wall_s']:.3f}",
    )
    for case in cases:
        element = ET.SubElement(suite, "testcase", classname=name, name=case.name, time="0")
        if case.state:
            ET.SubElement(element, case.state, message=case.why)
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    data: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return data + b"\n"
