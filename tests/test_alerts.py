"""Alert rules: checked by promtool, each seen to fire and not to, and one in a real Prometheus."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from service_process import service_process
from source_tree import ROOT

RULES = (ROOT / "harness" / "pipeline" / "service" / "alerts.yml").read_text("utf-8")
CASES = (ROOT / "tests" / "alert_cases.yml").read_text("utf-8")
NAMES = re.findall(r"alert: (\w+)", RULES)
REVIEW = {"text": "A great book, I loved it."}
EXPECTED = {"FlightAttemptsTimeOut", "FlightRequestsTimeOut"}
PATIENCE_S = 120.0
PROMETHEUS = """\
global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: flight
    static_configs: [{{targets: ["{target}"]}}]
"""
CRISIS = (
    'upstream.faults={silence={kind="hang_before_headers", rate=0.3}}',
    "upstream.profile.ttft=0.05",
    "pipeline.attempt_timeout_s=1.0",
    "pipeline.retries=0",
    "pipeline.rate_limit=none",
)


def program(name: str) -> str:
    """Where a program of Prometheus is; without it the test is skipped, but not by a build."""
    path = shutil.which(name)
    if path is None and "CI" not in os.environ:
        pytest.skip(f"there is no {name} here: it comes with Debian's package prometheus")
    assert path is not None, f"a build server needs {name}, such as that of Debian's prometheus"
    return path


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run promtool to its end."""
    command = [program("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def tried(folder: Path, rules: str) -> subprocess.CompletedProcess[str]:
    """Run the cases against some rules."""
    (folder / "rules.yml").write_text(rules)
    (folder / "cases.yml").write_text(CASES.replace("[RULES]", "[rules.yml]"))
    return promtool("test", "rules", folder / "cases.yml")


def with_expression(name: str, expression: str) -> str:
    """The rules, one of which has another expression, and none of its delay."""
    head, mark, rest = RULES.partition(f"alert: {name}\n")
    changed = re.sub(
        r"expr: .*?\n        for: \w+", f"expr: {expression}", rest, count=1, flags=re.DOTALL
    )
    return head + mark + changed


def test_rules_are_rules(tmp_path: Path) -> None:
    """Promtool takes the file as it is, and every rule says how grave it is and what to do."""
    (tmp_path / "rules.yml").write_text(RULES)
    done = promtool("check", "rules", tmp_path / "rules.yml")
    assert (done.returncode, f"{len(NAMES)} rules found" in done.stdout) == (0, True), done.stdout
    assert len(NAMES) == len(set(NAMES)) >= 6
    for words in ("for: ", "severity: ", "summary: "):
        assert RULES.count(words) == len(NAMES)


def test_each_alert_fires_and_does_not(tmp_path: Path) -> None:
    """Promtool's unit tests hold: what is bad fires with its summary, what is not is quiet."""
    done = tried(tmp_path, RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("expression", ["vector(0) > 1", "vector(0.1) > 0"])
def test_the_cases_tell_alerts_that_never_or_always_fire(
    tmp_path: Path, name: str, expression: str
) -> None:
    """An alert that cannot fire fails its case, and so does one that always does."""
    assert tried(tmp_path, with_expression(name, expression)).returncode != 0


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """A Prometheus that watches a target with the rules, which wait for one second only."""
    (folder / "rules.yml").write_text(re.sub(r"for: \w+", "for: 1s", RULES))
    (folder / "prometheus.yml").write_text(PROMETHEUS.format(target=target))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [program("prometheus"), f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", "--log.level=error"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            running.terminate()


def firing(url: str) -> dict[str, Any]:
    """The alerts that fire now, by name; none while Prometheus is not there yet."""
    try:
        with urlopen(f"{url}/api/v1/alerts", timeout=PATIENCE_S) as answer:  # noqa: S310 - ours
            found = json.loads(answer.read())["data"]["alerts"]
    except OSError:
        return {}
    return {one["labels"]["alertname"]: one for one in found if one["state"] == "firing"}


def test_timeouts_fire_in_a_real_prometheus(tmp_path: Path) -> None:
    """While a provider hangs, Prometheus scrapes the live service and both alerts fire."""
    program("prometheus")
    sets = [word for one in CRISIS for word in ("--set", one)]
    seen: dict[str, Any] = {}
    with (
        service_process(tmp_path, *sets, "--quiet") as service,
        prometheus(tmp_path, service.url.removeprefix("http://")) as url,
        ThreadPoolExecutor(10) as callers,
    ):
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and not seen.keys() >= EXPECTED:
            list(callers.map(lambda _: service.ask("POST", "/v1/reviews", REVIEW), range(10)))
            seen = firing(url)
    assert seen.keys() >= EXPECTED
    assert "of the calls to the provider" in seen["FlightAttemptsTimeOut"]["annotations"]["summary"]
    assert 0.05 < float(seen["FlightAttemptsTimeOut"]["value"]) < 1
    assert "FlightRedisAway" not in seen
