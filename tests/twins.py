"""Both engines on one scenario: the twin has to bring back what the code brings back."""

from pathlib import Path
from typing import Any

from harness.engines.base import EngineResult, prepare
from harness.engines.twin import run_in_twin
from harness.engines.virtual import run_on_virtual_clock
from harness.records import in_order, records_sha256
from harness.scenario.load import load_file
from harness.scenario.model import Scenario

SCENARIOS = Path(__file__).parent.parent / "scenarios"


def scenario(name: str, variant: str = "base", *overrides: str) -> Scenario:
    """A shipped scenario, changed."""
    return load_file(SCENARIOS / f"{name}.toml", overrides).resolve(variant)


def told(result: EngineResult) -> dict[str, Any]:
    """What both engines have to agree on."""
    return {
        "records": in_order(result.records),
        "sha256": records_sha256(result.records),
        "labels": dict(result.labels),
        "context": result.context_bytes,
        "stopped": result.stopped,
        "invalid": result.invalid,
        "money": result.money,
    }


def both(one: Scenario, seed: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the twin and the virtual engine say of a scenario."""
    prepared = prepare(one, base=SCENARIOS)
    simulated = run_in_twin(prepared, seed=seed)
    return told(simulated), told(run_on_virtual_clock(prepared, seed=seed))
