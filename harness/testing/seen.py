"""One attempt as a test sees it, and how attempts and findings are told to a person."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from harness.client_findings import Finding
from mock_llm.ledger import Row

LARGEST_BODY = 256 * 1024
SHOWN = 6
_ENDED = {"": "under way", "client_left": "the client left", "shutdown": "still waiting"}


class SeenCall(NamedTuple):
    """One attempt.

    Attributes:
        row: what the mock injected and what it delivered; filled in while the attempt goes on.
        body: the request's JSON; None when it is none, or larger than 256 KB.
    """

    row: Row
    body: dict[str, Any] | None

    @property
    def key(self) -> str:
        """Which request it belongs to: its X-Request-Key, else a hash of its last user message."""
        return self.row.key

    @property
    def model(self) -> str:
        """The model as requested."""
        return self.row.model

    @property
    def status(self) -> int:
        """The HTTP status; 0 before it is decided."""
        return self.row.status

    @property
    def ended(self) -> str:
        """How it ended, see `mock_llm.ledger.Row`; "" while it goes on."""
        return self.row.ended

    @property
    def injected(self) -> tuple[str, ...]:
        """The faults that struck it."""
        return self.row.injected

    @property
    def prompt(self) -> str:
        """Its last user message."""
        return last_user_text(self.body)


def parsed(body: bytes) -> dict[str, Any] | None:
    """The JSON object of a body; None when it is none, or too large to keep."""
    if len(body) > LARGEST_BODY:
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def last_user_text(body: Mapping[str, Any] | None) -> str:
    """The text of the last user message, "" without one."""
    messages = (body or {}).get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            parts = content if isinstance(content, list) else [{"text": content}]
            texts = [part.get("text") for part in parts if isinstance(part, dict)]
            return "".join(text for text in texts if isinstance(text, str))
    return ""


def told(row: Row, calls: Sequence[SeenCall]) -> str:
    """One attempt in a line: when, what it asked, what it got."""
    prompt = next((call.prompt for call in calls if call.row is row), "") or row.key
    asked = prompt if len(prompt) <= 32 else prompt[:29] + "..."
    began_s = calls[0].row.arrived_s if calls else row.arrived_s
    parts = [f"{row.arrived_s - began_s:9.3f} s", repr(asked), _status(row), row.error]
    if row.retry_after_s is not None:
        parts.append(f"retry after {row.retry_after_s:g} s")
    parts += [_ENDED.get(row.ended, row.ended), ", ".join(row.injected)]
    return "  ".join(filter(None, parts))


def _status(row: Row) -> str:
    return "no answer" if row.headers_s is None else str(row.status)


def report(findings: Iterable[Finding], calls: Sequence[SeenCall]) -> str:
    """The findings with some of their attempts, a line each."""
    return "\n".join(line for found in findings for line in _lines(found, calls))


def _lines(found: Finding, calls: Sequence[SeenCall]) -> Iterable[str]:
    yield f"{found.name} ({found.severity}): {found.text}"
    yield from (f"  {told(row, calls)}" for row in found.rows[:SHOWN])
    if len(found.rows) > SHOWN:
        yield f"  and {len(found.rows) - SHOWN} more"
    yield f"  cure: {found.advice}"
