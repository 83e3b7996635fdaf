"""The twin says what the code says: same requests, same outcomes, same times, to the bit."""

import pytest
from twins import SCENARIOS, both, scenario

from harness.scenario.load import load_file

CRISIS = load_file(SCENARIOS / "timeout_crisis.toml").names()


@pytest.mark.parametrize("variant", CRISIS)
def test_twin_is_the_virtual_run_of_the_crisis(variant: str) -> None:
    """Every variant of the crisis has the same rows, labels, money and end in both engines."""
    simulated, virtual = both(scenario("timeout_crisis", variant, "workload.reviews=120"))
    assert simulated == virtual
