"""Locust's web form: nobody is refused, each test has a folder, and Ctrl-C is a clean end."""

import json
import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from commands import mentioning
from locusts import SMALL, free_port, locust

LINK = r"http://127\.0\.0\.1:\d+/\?tab=flight"


def press(port: int, button: str, **form: object) -> dict[str, Any]:
    """What a button of the page is answered."""
    url = f"http://127.0.0.1:{port}/{button}"
    with urlopen(url, urlencode(form).encode(), timeout=60) as answer:
        return dict(json.load(answer))


def test_tests_of_one_locust_are_kept_apart(tmp_path: Path) -> None:
    """0 users are refused; of two tests each has its folder; Ctrl-C in a third ends all cleanly."""
    scenario, out, port = tmp_path / "small.toml", tmp_path / "out", free_port()
    scenario.write_text(SMALL.replace("ramp_s = 1\nduration_s = 5", "duration_s = 60"))
    place = ["--web-host", "127.0.0.1", "--web-port", str(port), "--out", str(out)]
    with locust(tmp_path, "web", "--scenario", str(scenario), *place) as running:
        running.until(LINK)
        refused = press(port, "swarm", user_count=0, spawn_rate=1)
        assert (refused["success"], refused["message"]) == (False, "0 users: give 1 at least")
        for n in (1, 2, 3):
            assert press(port, "swarm", user_count=n, spawn_rate=9)["success"]
            running.until(f'All users spawned: {{"Visitor": {n}}}')
            if n < 3:
                assert press(port, "stop")["success"]
        running.running.send_signal(signal.SIGINT)
        assert running.code() == 130, running.said
    assert "Traceback" not in running.said
    assert "KeyboardInterrupt" not in running.said
    kept = sorted(str(one.parent.relative_to(out)) for one in out.rglob("run.json"))
    assert kept == ["base-live-1", "test-2/base-live-1", "test-3/base-live-1"]
    assert mentioning(str(tmp_path)) == []


def test_ctrl_c_before_it_is_ready_is_a_clean_end(tmp_path: Path) -> None:
    """While the stack starts it ends everything as well, and prints no traceback."""
    scenario = tmp_path / "small.toml"
    scenario.write_text(SMALL)
    place = ["--web-host", "127.0.0.1", "--web-port", str(free_port())]
    with locust(tmp_path, "early", "--scenario", str(scenario), *place) as running:
        running.until("lint: base")
        running.running.send_signal(signal.SIGINT)
        assert running.code() == 130, running.said
    assert "Traceback" not in running.said
    while mentioning(str(tmp_path)):  # whoever was just being started hears of it by its pipe
        pass
