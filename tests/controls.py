"""A mock with the pages of control, and requests for them: what the tests of control share."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from loopback import QUICK, Client, Mock, head, mock

from mock_llm.config import Upstream
from mock_llm.control.access import Access
from mock_llm.control.pages import Controls

TOKEN = "an-unguessable-token"
HOST = "127.0.0.1:8000"


@asynccontextmanager
async def controlled(upstream: Upstream = QUICK, **options: Any) -> AsyncIterator[Mock]:
    """A mock whose pages of control are there."""
    async with mock(upstream) as running:
        Controls(running.server, Access(TOKEN, **options)).mount()
        yield running


def ask(method: str, path: str, body: object = None, **fields: str) -> bytes:
    """A request for control; a field of "" is left out."""
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    usual = {"Authorization": f"Bearer {TOKEN}", "Host": HOST}
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return head(method, path, {**usual, **named}, len(raw)) + raw


async def told(client: Client, method: str, path: str, body: object = None) -> Any:
    """What control answers, which must be a 200."""
    status, _, said = await client.ask(ask(method, path, body))
    assert (status, said) == (200, said)
    return json.loads(said)
