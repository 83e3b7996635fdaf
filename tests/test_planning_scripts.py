"""The capacity-planning scripts of `scenarios/`: what is committed is what they print."""

import importlib.util
import os
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from runs import ROOT

from harness.experiments import flights
from harness.experiments.run import Run, run_one

SCRIPTS = sorted((ROOT / "scenarios").glob("*.py"))
OUTPUT = ROOT / "results" / "planning"

# The whole takes a minute or two; a part of each is tried here, and what it prints must be there.
PARTS: dict[str, dict[str, Any]] = {
    "five_thousand": {"SLOTS": (12,)},
    "hundred_to_fifty_thousand": {"TRIED": 1000},
    "one_hour_outage": {"OUTAGES_MIN": (1, 20)},
    "price_change": {},
    "retry_storms": {"POLICIES": ("no_retries", "budget"), "LOADS_PER_S": (20,)},
    "thousand_at_a_hundred": {"TRIED": ()},
    "what_a_queue_is_worth": {"SIZES": (40, 400)},
}


def loaded(path: Path) -> ModuleType:
    """A script as a module, which is not run."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_is_committed_is_what_is_printed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every row that a part of a script prints stands in its committed output, and it draws."""
    script = loaded(path)
    for name, value in PARTS[path.stem].items():
        monkeypatch.setattr(script, name, value)
    script.main(tmp_path)
    printed = capsys.readouterr().out.splitlines()
    committed = (OUTPUT / f"{path.stem}.txt").read_text().splitlines()
    rows = [line for line in printed if line.lstrip()[:1].isdigit() or path.stem == "retry_storms"]
    assert len(rows) >= 2
    for row in rows:
        assert any(line.startswith(row.rstrip()) for line in committed), row
    with Image.open(tmp_path / f"{path.stem}.png") as picture:
        assert picture.size[0] > 600


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_a_page_with_its_picture(path: Path) -> None:
    """A script ends within a hundred lines, and its picture is committed beside its output."""
    assert len(path.read_text().splitlines()) <= 100
    assert (OUTPUT / f"{path.stem}.png").stat().st_size < 200_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_script_ends_when_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Ctrl-C or SIGTERM in a run ends the script, and half a run is nobody's result."""
    begun: list[int] = []

    def told(*args: Any, seed: int, **options: Any) -> Run:
        begun.append(seed)

        def once(_: object) -> None:
            if not begun[1:]:
                begun.append(-1)
                os.kill(os.getpid(), number)

        return run_one(*args, seed=seed, on_progress=once, **options)

    monkeypatch.setattr(flights, "run_one", told)
    world = ROOT / "scenarios" / "timeout_crisis.toml"
    with pytest.raises(KeyboardInterrupt):
        flights.fly(world, "workload.reviews=60", variant="after", seeds=(1, 2))
    assert begun == [1, -1]
