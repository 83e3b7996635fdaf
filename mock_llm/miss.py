"""What to say when a request is not recorded: which one is nearest, and what differs."""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

from mock_llm import envelope
from mock_llm.cassette import Request
from mock_llm.envelope import Refusal

_CANDIDATES, _CHARS, _SHOWN, _TOLD = 500, 500, 60, 3


def refusal(request: Request, known: Sequence[Request]) -> Refusal:
    """404 for a request that is not recorded.

    Args:
        request: what was asked.
        known: what is recorded, each request once.
    """
    said = f"{request.method} {request.path} with this content is not in the cassette"
    alike = [one for one in known if (one.method, one.path) == (request.method, request.path)]
    if alike:
        text = last_user_message(request.body)
        likeness, near = nearest(text, alike, request)
        shown = last_user_message(near.body)[:_SHOWN]
        differing = list(differences(request.body, near.body, ""))
        more = f" and {len(differing) - _TOLD} more" if len(differing) > _TOLD else ""
        what = ", ".join(differing[:_TOLD]) + more or "query or raw body"
        said += f". Nearest ({likeness:.0%} alike): {shown!r}; it differs in {what}"
    more_data: dict[str, object] = {"reason": "not_recorded"}
    return envelope.refusal(404, "not_found", f"{said}.", more_data)


def nearest(text: str, known: Sequence[Request], request: Request) -> tuple[float, Request]:
    """The recorded request whose last user message is most alike, and how alike it is in 0..1."""
    matcher = SequenceMatcher(b=text[:_CHARS])
    # A miss must not stop a server for seconds: of many, only those of about the same length.
    by_length = sorted(known, key=lambda one: abs(len(last_user_message(one.body)) - len(text)))
    best: tuple[tuple[float, int], Request] = ((-1.0, 0), by_length[0])
    for one in by_length[:_CANDIDATES]:
        matcher.set_seq1(last_user_message(one.body)[:_CHARS])
        if matcher.quick_ratio() < best[0][0]:
            continue
        score = (matcher.ratio(), -len(list(differences(request.body, one.body, ""))))
        if score > best[0]:
            best = (score, one)
    return best[0][0], best[1]


def last_user_message(body: Any) -> str:
    """The text of the last message of the user in a decoded body, or ""."""
    messages = body.get("messages") if isinstance(body, dict) else None
    for message in reversed(messages) if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") == "user":
            return _text(message.get("content"))
    return ""


def _text(content: Any) -> str:
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def differences(asked: Any, known: Any, path: str) -> Iterator[str]:
    """Paths at which two decoded bodies differ, short values with them."""
    if isinstance(asked, dict) and isinstance(known, dict):
        for name in sorted({*asked, *known}):
            below = f"{path}.{name}" if path else name
            yield from differences(asked.get(name), known.get(name), below)
    elif isinstance(asked, list) and isinstance(known, list) and len(asked) == len(known):
        for index, pair in enumerate(zip(asked, known, strict=True)):
            yield from differences(*pair, f"{path}[{index}]")
    elif asked != known:
        yield f"{path or 'body'} ({_short(asked)}, recorded {_short(known)})"


def _short(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
