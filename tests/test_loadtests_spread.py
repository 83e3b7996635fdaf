"""A master and three workers, as processes: totals, users, and a worker that is killed."""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from commands import mentioning
from locusts import SMALL, Locust, free_port, locust

WORKERS = 3


class Flown(NamedTuple):
    """A load test that is over.

    Attributes:
        codes: of the master and its workers.
        run: what the master has written.
        asked: what users saw, a row each.
        said: the master's output.
        left: processes that are still there.
    """

    codes: list[int]
    run: dict[str, Any]
    asked: list[dict[str, Any]]
    said: str
    left: list[str]


def fly(folder: Path, *, kill: bool = False) -> Flown:
    """Run it; with `kill`, one worker is killed when its users are at work."""
    scenario, out, port = folder / "small.toml", folder / "out", str(free_port())
    scenario.write_text(SMALL)
    names = [f"worker-{number}" for number in range(WORKERS)]
    master = ["--headless", "--master", "--expect-workers", str(WORKERS), "--only-summary"]
    master += ["--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    master += ["--service-host", "127.0.0.2"]  # another address than the usual one travels along
    master += ["--scenario", str(scenario), "--out", str(out)]
    with ExitStack() as held:
        first = held.enter_context(locust(folder, "master", *master))
        workers: list[Locust] = [
            held.enter_context(locust(folder, name, "--worker", "--master-port", port))
            for name in names
        ]
        if kill:
            # The master says either, by how soon it hears of its workers.
            first.until("All users spawned|Spawning is complete")
            workers[1].running.kill()
        codes = [one.code() for one in (first, *workers)]
        left = mentioning(str(folder))
    place = out / "base-live-1"
    run = json.loads((place / "run.json").read_text())
    asked = [json.loads(line) for line in (place / "asked.jsonl").read_text().splitlines()]
    return Flown(codes, run.get("run", run), asked, first.said, left)


def totals(run: dict[str, Any]) -> list[tuple[int, float]]:
    """Calls and dollars: as users saw them, as the service has them, and as the mock has them."""
    sides = run["reconciliation"]["kinds"]["review"]
    return [
        (sides[side]["attempts"], round(sides[side]["cost_usd"], 9))
        for side in ("users", "service", "mock")
    ]


def test_workers_add_up_to_one_test(tmp_path: Path) -> None:
    """Every user is there once, no request twice, and all totals are those of the mock's ledger."""
    flown = fly(tmp_path)
    users, service, mock = totals(flown.run)
    assert users == service == mock
    assert flown.run["reconciliation"]["differences"] == []
    assert flown.run["reconciliation"]["kinds"]["review"]["locust"] == len(flown.asked)
    assert {row["user"] for row in flown.asked} == {f"u{number}" for number in range(31)}
    assert Counter(row["key"] for row in flown.asked).most_common(1)[0][1] == 1
    assert (flown.run["ok"], flown.run["lost"]) == (len(flown.asked), 0)
    assert flown.codes[1:] == [0] * WORKERS
    assert flown.left == []


def test_a_killed_worker_is_told_of(tmp_path: Path) -> None:
    """What it has reported is known, what it has not is named, and the totals still agree."""
    flown = fly(tmp_path, kill=True)
    reconciled = flown.run["reconciliation"]
    (said,) = [note for note in flown.run["notes"] if "was lost at" in note]
    assert f"what became of {len(reconciled['unseen'])} more requests" in said
    assert reconciled["differences"] == []
    assert reconciled["lost"] == []
    users, service, mock = totals(flown.run)
    assert users == service == mock
    assert users[0] + len(reconciled["unseen"]) == flown.run["attempts"]
    assert len({row["user"] for row in flown.asked}) >= 20
    assert "was lost at" in flown.said
    assert flown.left == []
