"""What a recorded body says: text, tokens, dollars; read leniently, whatever it turns out to be."""

from collections.abc import Iterator
from typing import Any

import msgspec

from mock_llm.cassette import decoded


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """The gist of an answer.

    Attributes:
        text: of the first choice.
        prompt_tokens: as the answer says; 0 when it does not.
        cached_tokens: of these.
        completion_tokens: likewise.
        cost_usd: `usage.cost`; None when the answer does not say.
        failed: there is an error in it.
    """

    text: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    failed: bool = False


def read_said(body: bytes) -> Said:
    """Read a whole answer or a whole stream."""
    parts = [part for part in _parts(body) if isinstance(part, dict)]
    usages = [part["usage"] for part in parts if isinstance(part.get("usage"), dict)]
    usage: dict[str, Any] = usages[-1] if usages else {}
    cost = usage.get("cost")
    return Said(
        text="".join(map(_text, parts)),
        prompt_tokens=_count(usage, "prompt_tokens"),
        cached_tokens=_count(usage.get("prompt_tokens_details"), "cached_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        cost_usd=float(cost) if isinstance(cost, int | float) and cost >= 0 else None,
        failed=any("error" in part for part in parts),
    )


def says_text(data: bytes) -> bool:
    """Whether bytes of a body are more than keep-alives: neither blanks nor comments alone."""
    return any(line.strip() and not line.startswith(b":") for line in data.splitlines())


def _parts(body: bytes) -> Iterator[Any]:
    """The events of a stream, or the one JSON text."""
    if not body.lstrip().startswith((b"data:", b":", b"event:")):
        yield decoded(body)
        return
    for line in body.splitlines():
        if line.startswith(b"data:"):
            yield decoded(line[5:])


def _text(part: dict[str, Any]) -> str:
    choices = part.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict):
        return ""
    said = first.get("delta") or first.get("message")
    content = said.get("content") if isinstance(said, dict) else None
    return content if isinstance(content, str) else ""


def _count(usage: object, name: str) -> int:
    found = usage.get(name) if isinstance(usage, dict) else None
    return found if isinstance(found, int) and found > 0 else 0
