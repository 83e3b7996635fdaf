"""Replies in the shape that was asked for: tool calls, JSON, instances of a schema, stops."""

from collections.abc import Callable, Iterator
from functools import lru_cache

import msgspec

from mock_llm.plan import ToolCall
from mock_llm.replies import Reply, limited, padded
from mock_llm.structured import Hints, instance
from mock_llm.tokens import Counter
from mock_llm.wants import Tool, Wants

_LABELS = "label sentiment classification class category polarity verdict"
_CONFIDENCES = "confidence score probability certainty"
_PICK = "tool"


class Said(msgspec.Struct, frozen=True, gc=False):
    """A reply, and what it calls in place of a text."""

    reply: Reply
    tool_calls: tuple[ToolCall, ...] = ()


@lru_cache(maxsize=256)
def plain(text: str, wanted: int | None, max_tokens: int | None, count: Counter) -> Said:
    """Return a free answer, made so long if somebody wants it, and cut at `max_tokens`."""
    return Said(limited(padded(text, wanted) if wanted else text, max_tokens, count))


def shaped(
    wants: Wants,
    text: str,
    max_tokens: int | None,
    count: Counter,
    uniform: Callable[[str], float],
) -> Said:
    """Return what is said in place of a text that knows nothing of the wishes.

    Args:
        wants: the wishes.
        text: the free answer; what a classifier said in it goes where a schema has room for it.
        max_tokens: limit of the completion.
        count: counts a text's tokens.
        uniform: path to a uniform in (0, 1), the same for every attempt at the request.

    Raises:
        Unsatisfiable: no instance can be made of a schema.
    """
    if wants.tools:
        calls = list(_calls(wants, hints(text), max_tokens, count, uniform))
        tokens = sum(count(call.name) + part.tokens for call, part in calls)
        whole = all(part.finish_reason == "stop" for _, part in calls)
        reply = Reply("", tokens, "tool_calls" if whole else "length")
        return Said(reply, tuple(call for call, _ in calls))
    if wants.schema is not None:
        text = _json(instance(wants.schema, uniform, hints(text)))
    elif wants.json and not text.startswith("{"):
        text = _json({"text": text})
    ends = [at for one in wants.stop if (at := text.find(one)) >= 0]
    return Said(limited(text[: min(ends, default=None)], max_tokens, count))


def _calls(
    wants: Wants,
    known: Hints,
    max_tokens: int | None,
    count: Counter,
    uniform: Callable[[str], float],
) -> Iterator[tuple[ToolCall, Reply]]:
    """The calls, each with its arguments as a reply; one that reaches the limit is the last."""
    picked = int(uniform(_PICK) * len(wants.tools))
    tools: tuple[Tool, ...] = wants.tools if wants.parallel else wants.tools[picked : picked + 1]
    left = max_tokens
    for tool in tools:

        def within(path: str, name: str = tool.name) -> float:
            return uniform(f"{_PICK}:{name}:{path}")

        said = limited(_json(instance(tool.schema, within, known)), left, count)
        yield ToolCall(tool.name, said.text), said
        left = None if left is None else left - said.tokens
        if left == 0:
            return


def hints(text: str) -> Hints:
    """Return a classifier's answer by the names that a schema may have for its parts."""
    try:
        said = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    label, confidence = str(said["label"]), float(said["confidence"])
    words = (label, label.capitalize(), label.upper(), label[:3], label[:3].upper())
    numbers = (confidence, round(100 * confidence))
    flags = {
        f"{prefix}{name}": (label == name,)
        for name in ("positive", "negative")
        for prefix in ("", "is_")
    }
    found: Hints = {
        **dict.fromkeys(_LABELS.split(), words),
        **dict.fromkeys(_CONFIDENCES.split(), numbers),
        **flags,
    }
    return {**found, "reason": (said["reason"],)} if "reason" in said else found


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
