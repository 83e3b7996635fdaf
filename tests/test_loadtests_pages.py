"""What a mock says of itself, as a load test reads it over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from loadtests.pages import working


@contextmanager
def saying(text: str) -> Iterator[str]:
    """The base URL of a mock whose metrics are this text."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/v1"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("text", "still"), [("2.0", True), ("0.0", False)])
def test_a_mock_may_work_on_for_those_who_have_left(text: str, still: bool) -> None:
    """Its calls under way are its own figure; whoever cannot be asked has none."""
    with saying(f"# TYPE mock_llm_in_flight gauge\nmock_llm_in_flight {text}\n") as url:
        assert working(url) is still
    assert working(None) is False
    assert working("http://127.0.0.1:9/api/v1") is False
