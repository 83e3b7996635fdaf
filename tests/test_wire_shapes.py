"""Shapes that a setting, a tool or a fault asks for, against the official SDK's strict models."""

import json
import re
from typing import Any

import msgspec
import pytest
from answers import CALL, CREATED, PLAN, STREAM, completion, dechunked, event_data, writes
from openrouter.components import ChatResult, ChatStreamChunk
from playing import played

from mock_llm import envelope, shapes
from mock_llm.faults import (
    DuplicatedChunks,
    EmptyChoices,
    EmptyContent,
    FaultBase,
    FinishError,
    Moderation,
    PrematureEof,
)
from mock_llm.plan import Call, Plan, ToolCall
from mock_llm.timeline import timeline
from mock_llm.wire import Style

TOOLS = msgspec.structs.replace(
    PLAN,
    reply="",
    tool_calls=(ToolCall("look_up", '{"id":7}'), ToolCall("judge", "{}")),
    finish_reason="tool_calls",
)
USED = {"prompt_tokens": 550, "completion_tokens": 11, "total_tokens": 561}


def styled(shape: Any, call: Call, plan: Plan) -> list[Any]:
    style = Style(usage_chunk=shape)
    due = played(timeline(call, plan, CREATED, keep_alive_s=None, completion_usd=1e-6, style=style))
    return event_data(dechunked(b"".join(write.data for write in due))[1])


@pytest.mark.parametrize(
    ("shape", "choices"),
    [
        ("finish_again", [{"index": 0, "delta": {"role": "assistant", "content": ""},
                           "finish_reason": "stop", "native_finish_reason": "stop"}]),
        ("no_choices", []),
        ("empty_delta", [{"index": 0, "delta": {"role": "assistant", "content": ""},
                          "finish_reason": None, "native_finish_reason": None}]),
    ],
)  # fmt: skip
def test_usage_has_had_three_shapes(shape: str, choices: list[Any]) -> None:
    """The last chunk has the usage and its own choices, and the official SDK takes all three."""
    *before, last = styled(shape, STREAM, PLAN)
    assert last["choices"] == choices
    assert USED.items() <= last["usage"].items()
    assert before[-1]["choices"][0]["finish_reason"] == "stop"
    for data in (*before, last):
        ChatStreamChunk.model_validate(data)


@pytest.mark.parametrize("shape", ["finish_again", "no_choices", "empty_delta"])
@pytest.mark.parametrize(
    "fault",
    [
        FinishError(rate=1, variant="usage_chunk"),
        EmptyContent(rate=1),
        EmptyContent(rate=1, finish_reason="null"),
        EmptyChoices(rate=1),
    ],
    ids=lambda one: type(one).__name__,
)
def test_spoiled_chunks_have_any_of_the_shapes(shape: str, fault: FaultBase) -> None:
    """What faults make of the last chunks is JSON in every shape, and its usage is still there."""
    last = styled(shape, STREAM, fault.apply(PLAN, "f", 0.5))[-1]
    assert last["usage"]["prompt_tokens"] == 550


def test_tool_calls_are_what_the_sdk_expects() -> None:
    """A message that calls has no content, and each call its id, name and arguments."""
    result = ChatResult.model_validate_json(completion(plan=TOOLS), strict=True)
    message = result.choices[0].message
    assert (message.content, result.choices[0].finish_reason) == (None, "tool_calls")
    assert message.tool_calls is not None
    first, second = message.tool_calls
    assert (first.function.name, first.function.arguments) == ("look_up", '{"id":7}')
    assert second.function.name == "judge"
    assert re.fullmatch(r"call_[A-Za-z0-9]{24}", first.id)
    assert first.id != second.id


def test_streamed_calls_come_in_pieces() -> None:
    """A call's id and name come first and once, then its arguments, all under its index."""
    stream = msgspec.structs.replace(STREAM, wants=None)
    chunks = [
        ChatStreamChunk.model_validate(data) for data in styled("finish_again", stream, TOOLS)
    ]
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or ()]
    assert [part.index for part in parts] == sorted(part.index for part in parts)
    heads = [part for part in parts if part.id is not None]
    assert [(part.index, part.function and part.function.name) for part in heads] == [
        (0, "look_up"),
        (1, "judge"),
    ]
    said = ["", ""]
    for part in parts:
        assert part.function is not None
        said[part.index] += part.function.arguments or ""
    assert said == ['{"id":7}', "{}"]
    assert len(parts) > 4
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == ["tool_calls"] * 2


def test_calls_are_as_late_as_their_tokens() -> None:
    """The first piece of a call leaves with the first token, the end with the last."""
    due = [write for write in writes(STREAM, TOOLS) if write.tokens]
    assert (due[0].at_s, due[-1].at_s, due[-1].tokens) == (1.0, 2.0, 11)
    assert b'"arguments":""' in due[0].data


@pytest.mark.parametrize(
    ("fault", "pieces"),
    [
        (DuplicatedChunks(rate=1), ["", "", '{"', '{"']),
        (PrematureEof(rate=1, after_chunks=3), ["", '{"', "id"]),
    ],
    ids=["twice", "cut"],
)
def test_faults_of_streams_strike_calls(fault: FaultBase, pieces: list[str]) -> None:
    """The events of a call come twice, or only some of them, as those of a text do."""
    plan = fault.apply(TOOLS, "f", 0.5)
    data = b"".join(write.data for write in writes(STREAM, plan)).decode()
    found = re.findall(r'"arguments":("(?:[^"\\]|\\.)*")', data)
    assert [json.loads(one) for one in found][: len(pieces)] == pieces
    assert (len(found) > 8) == isinstance(fault, DuplicatedChunks)


def test_flagged_input_is_cut_in_its_middle() -> None:
    """Of a long input a moderation quotes a hundred characters, its beginning and its end."""
    call = msgspec.structs.replace(CALL, text="a" * 90 + "b" * 90)
    refused = envelope.planned(call, Moderation(rate=1).apply(PLAN, "f", 0.5))
    metadata = json.loads(refused.body)["error"]["metadata"]
    assert metadata["flagged_input"] == "a" * 48 + "..." + "b" * 49
    assert (refused.status, metadata["reasons"]) == (403, ["harassment"])


def test_errors_may_name_the_user() -> None:
    """With the setting every error has a `user_id` beside it."""
    refused = shapes.refusal(envelope.NOT_FOUND, Style(user_id="user_1"), "")
    assert json.loads(refused.body)["user_id"] == "user_1"
    assert shapes.refusal(envelope.NOT_FOUND, Style(), "") is envelope.NOT_FOUND
