"""What the service and the mock say of themselves while they run."""

from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.request import Request, urlopen

import msgspec

_PATIENCE_S = 5.0
_CONTROL, _API = "/__control", "/api/v1"


def metrics_of(service_url: str) -> dict[str, float]:
    """Its `/metrics`, by name and labels as they are written there; empty when it has none.

    https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    page = _page(Request(f"{service_url}/metrics"))  # noqa: S310 - Locust's own host
    found = {}
    for line in (page or b"").decode("utf-8", "replace").splitlines():
        name, _, value = line.rpartition(" ")
        if name and not name.startswith("#"):
            try:
                found[name] = float(value)
            except ValueError:
                return {}  # somebody else's page
    return found


def requests_counted(metrics: Mapping[str, float]) -> int | None:
    """Requests that ended, whatever became of them; None when nobody tells."""
    counts = [count for name, count in metrics.items() if name.startswith("flight_requests_total{")]
    return round(sum(counts)) if counts else None


def doubts_of(mock_url: str, token: str) -> tuple[str, ...]:
    """Why a mock calls itself the bottleneck; empty when it does not, or cannot be asked."""
    headers = {"Authorization": f"Bearer {token}"}
    url = mock_url.removesuffix(_API) + _CONTROL
    page = _page(Request(url, headers=headers))  # noqa: S310 - as whoever started it says
    try:
        told: Any = msgspec.json.decode(page or b"{}")
        return tuple(map(str, told["fidelity"]["total"]["reasons"]))
    except (msgspec.DecodeError, KeyError, TypeError):
        return ()


def working(mock_url: str | None) -> bool:
    """Whether a mock still has calls under way: some go on though whoever made them has left."""
    if mock_url is None:
        return False
    return metrics_of(mock_url.removesuffix(_API)).get("mock_llm_in_flight", 0.0) > 0


def _page(request: Request) -> bytes | None:
    try:
        with urlopen(request, timeout=_PATIENCE_S) as page:  # noqa: S310 - see those who call
            data: bytes = page.read()
    except (OSError, HTTPException, ValueError):
        return None
    return data
