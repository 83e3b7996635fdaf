"""Shapes and arrivals under Locust: who comes when, and what is told of it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from locusts import SMALL, free_port, locust

from harness.scenario.arrivals import PoissonArrivals
from harness.scenario.workload import Workload
from harness.workload import schedule

ATTEMPTS = 4


class Ended(NamedTuple):
    """A load test that is over: its exit code, what it says, its run, and what users saw."""

    code: int
    said: str
    run: dict[str, Any]
    asked: list[dict[str, Any]]


def flown(folder: Path, *arguments: str) -> Ended:
    """A load test of the small scenario."""
    scenario = folder / "small.toml"
    scenario.write_text(SMALL)
    usual = ("--headless", "--only-summary", "--scenario", str(scenario), "--out", str(folder))
    with locust(folder, "alone", *usual, *arguments) as running:
        code = running.code()
    place = folder / "base-live-1"
    run = json.loads((place / "run.json").read_text())
    asked = [json.loads(line) for line in (place / "asked.jsonl").read_text().splitlines()]
    return Ended(code, running.said, run, asked)


def calm(folder: Path, *arguments: str) -> Ended:
    """A load test that says it was not late: where the machine stands still another is flown."""
    for number in range(ATTEMPTS):
        place = folder / str(number)
        place.mkdir()
        ended = flown(place, *arguments)
        levels = (ended.run.get("search") or {"levels": []})["levels"]
        late = [why for one in levels for why in one["missed"] if "generator is late" in why]
        if ended.run["valid"] and not late:
            break
    return ended


def test_arrivals_come_by_their_schedule(tmp_path: Path) -> None:
    """Between two processes each arrival is sent once, and not before its intended time."""
    several = ("--processes", "2", "--master-bind-port", str(free_port()))
    ended = flown(tmp_path, "--open-loop", "poisson:rate_per_s=20", "-t", "3", *several)
    shape = PoissonArrivals(rate_per_s=20.0)
    starts = schedule(Workload(kind="arrivals", arrivals=shape, duration_s=3.0), 1)
    assert {one["key"]: one["t_intended"] for one in ended.asked} == pytest.approx(
        {f"a{n:06d}": start for n, start in enumerate(starts)}, abs=1e-6
    )
    assert all(one["t_sent"] >= one["t_intended"] for one in ended.asked)
    assert ended.run["ok"] == ended.run["requests"] == len(starts)
    assert ended.code == (0 if ended.run["valid"] else 3), ended.said


def test_arrivals_that_find_no_place_are_told_of(tmp_path: Path) -> None:
    """With one place for all, most of them are not sent at all: that is another load than meant."""
    ended = flown(
        tmp_path, "--open-loop", "constant:rate_per_s=20", "-t", "2", "--most-in-flight", "1"
    )
    missing = 40 - len(ended.asked)
    assert missing > 0
    assert f"{missing} of 40 arrivals were never sent" in ended.run["invalid_reasons"]
    assert ended.code == 3


def test_users_come_and_go_with_a_spike(tmp_path: Path) -> None:
    """Nine more users are there while it lasts, and of its end something is told."""
    ended = calm(tmp_path, "--shape", "spike:base=3,factor=4,at=3,for=3,after=3")
    spike = ended.run["spike"]
    assert spike["from_s"] == pytest.approx(3.0, abs=1.5)
    assert spike["to_s"] - spike["from_s"] == pytest.approx(3.0, abs=1.5)
    during = Counter(spike["from_s"] < one["t_sent"] < spike["to_s"] for one in ended.asked)
    assert during[True] / 3 > 2 * during[False] / 6
    assert {one["user"] for one in ended.asked} == {f"u{n}" for n in range(12)}
    assert "after the spike" in ended.said
    assert ended.run["ok"] == len(ended.asked)


def test_the_search_says_what_binds(tmp_path: Path) -> None:
    """Two workers at 0.2 s cannot serve many users: it is they who bind."""
    sets = ("pipeline.workers=2", "workload.think=0.2", 'slo={"latency_s.mean" = "<= 0.4"}')
    settings = [word for one in sets for word in ("--set", one)]
    ended = calm(tmp_path, "--shape", "search:start=4,warm=1,hold=3,within=1", *settings)
    search = ended.run["search"]
    levels = {one["users"]: one["passed"] for one in search["levels"]}
    assert levels[search["users"]] is True
    assert False in levels.values()
    assert search["users"] < min(users for users, passed in levels.items() if not passed)
    assert search["binds"].startswith("the service's workers"), ended.said
    assert f"{search['users']} users at most" in ended.said
    assert ended.code == 0, ended.said
