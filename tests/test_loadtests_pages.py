"""What a service says of itself is read, and whoever says nothing is not guessed at."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from loadtests.pages import doubts_of, metrics_of, requests_counted, working

METRICS = """\
# HELP flight_requests_total Requests that ended.
flight_requests_total{kind="interactive",outcome="ok"} 7.0
flight_requests_total{kind="batch",outcome="failed"} 2.0
flight_loop_lag_p99_seconds 0.004
mock_llm_in_flight 2.0
"""
CONTROL = '{"fidelity":{"total":{"reasons":["its event loop lags"]}}}'


class Pages(BaseHTTPRequestHandler):
    """A service's metrics, a mock's control, and nothing else."""

    def do_GET(self) -> None:
        """Answer; control only to who has the token."""
        known = self.headers.get("Authorization") == "Bearer secret-token"
        texts = {"/metrics": METRICS, "/other/metrics": "<html> no metrics </html>"}
        text = texts.get(self.path) or (CONTROL if known and self.path == "/__control" else "")
        self.send_response(200 if text else 404)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """Where the pages are."""
    with HTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_services_counter_is_added_up(url: str) -> None:
    """Over all kinds and outcomes; other figures are there by their names."""
    found = metrics_of(url)
    assert requests_counted(found) == 9
    assert found["flight_loop_lag_p99_seconds"] == 0.004


def test_a_mock_tells_its_doubts_to_who_may_ask(url: str) -> None:
    """With the token they are told, without it nothing is."""
    assert doubts_of(f"{url}/api/v1", "secret-token") == ("its event loop lags",)
    assert doubts_of(f"{url}/api/v1", "another") == ()


def test_whoever_has_no_such_page_says_nothing(url: str) -> None:
    """A page that is not there, somebody else's, or nobody at all."""
    for where in (f"{url}/none", f"{url}/other", "http://127.0.0.1:1"):
        assert metrics_of(where) == {}
    assert requests_counted({}) is None
    assert doubts_of("http://127.0.0.1:1/api/v1", "secret-token") == ()


def test_a_mock_may_work_on_for_those_who_have_left(url: str) -> None:
    """Its calls under way are its own figure; of whoever cannot be asked none are known."""
    assert working(f"{url}/api/v1") is True
    for where in (f"{url}/none/api/v1", "http://127.0.0.1:1/api/v1", None):
        assert working(where) is False
