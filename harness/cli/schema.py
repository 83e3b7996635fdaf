"""`harness schema`: the JSON Schema of scenario files, for editors."""

import sys

from harness.scenario.schema import scenario_schema_json


def schema() -> int:
    """Print the JSON Schema of scenario files."""
    sys.stdout.write(scenario_schema_json())
    return 0
