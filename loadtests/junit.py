"""What a load test found, as CI servers read it: one case for each promise.

The format is that of Ant's JUnit task as Jenkins and GitLab take it:
https://github.com/jenkinsci/xunit-plugin/blob/master/src/main/resources/org/jenkinsci/plugins/xunit/types/model/xsd/junit-10.xsd
"""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from harness.report.cases import Case

FAILED, INVALID = 1, 3


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
