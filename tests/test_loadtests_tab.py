"""The tab's pages: who may, what a switch does, and what is counted."""

from typing import Any, NamedTuple

import pytest
from flask import Flask
from flask.testing import FlaskClient

from harness.errors import InputError
from loadtests.tab import Live, Provider, Tab, Tally, command
from mock_llm.control.access import Access

TOKEN = "an-unguessable-token"
MAY = {"Authorization": f"Bearer {TOKEN}", "Host": "127.0.0.1:8089"}


class Ended(NamedTuple):
    """A request that has ended."""

    outcome: str
    cause: str


class Mock:
    """A mock's control that notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.upstream: dict[str, Any] = {"throttle": {"requests_per_min": 240}, "faults": {}}
        self.dead = False

    def ask(self, method: str, path: str, body: Any) -> Any:
        """Note it."""
        if self.dead:
            raise ConnectionRefusedError("nobody listens")
        self.asked.append((method, path, body))
        minute = {"reasons": ["its event loop lagged"]}
        return {"upstream": self.upstream, "fidelity": {"minute": minute}}


class Site:
    """The pages, and what is behind them."""

    def __init__(self, *, mock: bool = True) -> None:
        self.mock = Mock()
        self.rows = [Ended("ok", ""), Ended("timed_out", "queue"), Ended("timed_out", "queue")]
        provider = Provider(self.mock.ask, 240) if mock else None
        app = Flask(__name__)
        app.add_url_rule("/", "index", lambda: "<html><head></head></html>")
        Tab(Access(TOKEN), self.live, provider).mount(app)
        self.client: FlaskClient = app.test_client()

    def live(self) -> Live:
        """How it stands."""
        return Live("running", 3, "crisis after", self.rows, ("a reason",))

    def flip(self, body: object) -> int:
        """Throw a switch; the status."""
        return self.client.post("/flight/switch", json=body, headers=MAY).status_code


@pytest.fixture
def site() -> Site:
    """A site that has a mock."""
    return Site()


def test_state_is_told(site: Site) -> None:
    """Whoever may reads counts by outcome and cause, the reasons, and where the switches are."""
    site.mock.upstream["faults"] = {"dashboard_hang": {"rate": 0.05}}
    assert site.client.get("/flight/state", headers=MAY).get_json() == {
        "runner": "running",
        "users": 3,
        "about": "crisis after",
        "reasons": ["a reason", "the mock: its event loop lagged"],
        "measured": [],
        "workers": [],
        "outcomes": {"ok": 1, "timed_out": 2},
        "causes": [{"outcome": "timed_out", "cause": "queue", "count": 2}],
        "switches": {"hang": 5.0, "throttle": None, "outage": None},
        "trouble": "",
    }


@pytest.mark.parametrize(
    ("fields", "peer", "status"),
    [
        ({}, "127.0.0.1", 401),
        ({"Authorization": "Bearer another-token-than-that"}, "127.0.0.1", 401),
        ({"Authorization": f"Bearer {TOKEN}"}, "192.0.2.7", 403),
        ({"Authorization": f"Bearer {TOKEN}", "Host": "evil.example"}, "127.0.0.1", 403),
        ({"X-Control-Token": TOKEN}, "127.0.0.1", 200),
    ],
)
def test_who_may(site: Site, fields: dict[str, str], peer: str, status: int) -> None:
    """Nobody reads or switches without the token, from elsewhere, or by another name."""
    place = {"REMOTE_ADDR": peer}
    body = {"name": "outage", "amount": 100}
    read = site.client.get("/flight/state", headers=fields, environ_base=place)
    wrote = site.client.post("/flight/switch", json=body, headers=fields, environ_base=place)
    assert (read.status_code, wrote.status_code) == (status, status)
    assert [one[0] for one in site.mock.asked] == (["GET", "PUT"] if status == 200 else [])


def test_switches_reach_the_mock(site: Site) -> None:
    """Each is the command of the mock's own page; off is what the scenario says."""
    bodies = [
        {"name": "hang", "amount": 5},
        {"name": "outage", "amount": 100},
        {"name": "outage"},
        {"name": "throttle", "amount": 60},
        {"name": "throttle", "amount": None},
    ]
    assert [site.flip(body) for body in bodies] == [200] * 5
    assert site.mock.asked == [
        ("PUT", "/faults/dashboard_hang", {"kind": "hang_before_headers", "rate": 0.05}),
        ("PUT", "/faults/dashboard_outage", {"kind": "server_error", "status": 503, "rate": 1.0}),
        ("DELETE", "/faults/dashboard_outage", None),
        ("PATCH", "/throttle", {"requests_per_min": 60}),
        ("PATCH", "/throttle", {"requests_per_min": 240}),
    ]


@pytest.mark.parametrize(
    ("name", "amount"),
    [("hang", 0), ("outage", 101), ("throttle", 0.5), ("throttle", 1.5), ("pause", 1)],
)
def test_amounts_are_checked(name: str, amount: float) -> None:
    """A switch that there is not, or an amount that cannot be, changes nothing and says so."""
    with pytest.raises(InputError, match=f"^{name}: "):
        command(name, amount, None)


@pytest.mark.parametrize("body", [[], {"name": 3}, {"name": "hang", "amount": "5"}, {"x": 1}])
def test_bad_bodies_change_nothing(site: Site, body: object) -> None:
    """What is no switch gets 422, and the mock hears nothing."""
    assert site.flip(body) == 422
    assert site.mock.asked == []


def test_a_dead_mock_is_told(site: Site) -> None:
    """Without the mock the counts are still there, and switching is a 502."""
    site.mock.dead = True
    state = site.client.get("/flight/state", headers=MAY).get_json()
    assert state["outcomes"] == {"ok": 1, "timed_out": 2}
    assert state["trouble"] == "the mock does not answer: nobody listens"
    assert site.flip({"name": "hang", "amount": 5}) == 502


def test_without_a_mock_there_are_no_switches() -> None:
    """Against a provider of the user's own nothing can be switched."""
    site = Site(mock=False)
    assert site.client.get("/flight/state", headers=MAY).get_json()["switches"] is None
    assert site.flip({"name": "hang", "amount": 5}) == 422


def test_each_request_is_counted_once(site: Site) -> None:
    """Looking again adds what is new only, and another test begins at nothing."""
    tally, rows = Tally(), site.rows
    tally.look(rows[:2])
    tally.look(rows)
    assert tally.told()["outcomes"] == {"ok": 1, "timed_out": 2}
    tally.look(rows[:1])
    assert tally.told() == {"outcomes": {"ok": 1}, "causes": []}


def test_locusts_page_has_the_script(site: Site) -> None:
    """It is in Locust's page and in no other, and both pages have the mock's look."""
    assert b'src="flight/tab.js"' in site.client.get("/").data
    assert b"tab.js" not in site.client.get("/flight").data
    assert b"addEventListener" not in site.client.get("/flight/tab.js").data
    assert b"--page:" in site.client.get("/flight/style.css").data
