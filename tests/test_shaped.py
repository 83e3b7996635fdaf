"""Replies in the shape that was asked for: what the provider plans to say."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mock_llm.behaviour import Provider
from mock_llm.chat import Reader, read_chat
from mock_llm.config import Profile, Upstream
from mock_llm.faults import EmptyContent, FinishError, SplitUtf8
from mock_llm.plan import Plan
from mock_llm.tokens import estimate

QUICK = Upstream(profile=Profile(ttft=0.0))
WORDY = Upstream(profile=Profile(ttft=0.0), reply="text")
ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "A great book, I loved it."}]}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "sentiment": {"type": "string", "enum": ["Positive", "Negative", "Neutral"]},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "topics": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
    },
    "required": ["sentiment", "confidence", "topics"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "r", "strict": True, "schema": SCHEMA}}


def tool(name: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    function: dict[str, Any] = (
        {"name": name} if schema is None else {"name": name, "parameters": schema}
    )
    return {"type": "function", "function": function}


def plan(upstream: Upstream = QUICK, *, key: str = "r", **body: Any) -> Plan:
    reader, chat = Reader(upstream), read_chat(json.dumps({**ASKED, **body}).encode())
    call = reader.call(chat, key=key, account="a", new_connection=False)
    return Provider(upstream, seed=1).admit(call, 0.0)


def test_stop_ends_the_text() -> None:
    """The reply ends before the first stop that is in it, and is billed for what is left."""
    free, cut = plan(WORDY), plan(WORDY, stop=["missing", "liked", "what"])
    assert cut.reply == free.reply.partition("what")[0]
    assert (cut.finish_reason, cut.completion_tokens) == ("stop", estimate(cut.reply))
    assert cut.cost_usd < free.cost_usd


def test_stop_that_does_not_occur_changes_nothing() -> None:
    """A stop that is nowhere in the text leaves it whole."""
    assert plan(WORDY, stop="###") == plan(WORDY)


def test_json_object_is_one() -> None:
    """A classifier answers in JSON anyhow, and words are put into an object."""
    form = {"type": "json_object"}
    assert plan(response_format=form) == plan()
    assert json.loads(plan(WORDY, response_format=form).reply) == {"text": plan(WORDY).reply}


def test_schema_holds_the_classifiers_answer() -> None:
    """The label and the confidence of the free answer are in the one that has a schema."""
    free = json.loads(plan().reply)
    said = json.loads(plan(response_format=FORMAT).reply)
    Draft202012Validator(SCHEMA).validate(said)
    assert said["sentiment"].lower() == free["label"]
    assert said["confidence"] == free["confidence"]


def test_retry_says_the_same() -> None:
    """What is made of a schema depends on the request alone, and differs between requests."""
    provider, reader = Provider(WORDY, seed=1), Reader(WORDY)
    chat = read_chat(json.dumps({**ASKED, "response_format": FORMAT}).encode())
    first, again, other = (
        provider.admit(reader.call(chat, key=key, account="a", new_connection=False), now)
        for now, key in enumerate(("r", "r", "s"))
    )
    assert (first.draw, again.draw) == (0, 1)
    assert first.reply == again.reply
    assert first.reply != other.reply


def test_limit_cuts_an_instance() -> None:
    """At `max_tokens` the JSON is torn, and the finish reason says so."""
    whole = plan(response_format=FORMAT)
    cut = plan(response_format=FORMAT, max_tokens=5)
    assert (cut.completion_tokens, cut.finish_reason) == (5, "length")
    assert whole.reply.startswith(cut.reply)


def test_tool_is_called_with_valid_arguments() -> None:
    """In answer to a user the model calls a tool, whose arguments are an instance of its schema."""
    found = plan(tools=[tool("judge", SCHEMA)])
    (called,) = found.tool_calls
    assert (called.name, found.reply, found.finish_reason) == ("judge", "", "tool_calls")
    Draft202012Validator(SCHEMA).validate(json.loads(called.arguments))
    assert found.completion_tokens == estimate(called.arguments) + estimate("judge")
    assert found.cost_usd > 0


def test_one_of_several_tools_is_drawn() -> None:
    """Which tool is called depends on the request, and with time each is."""
    tools = [tool("a"), tool("b"), tool("c")]
    called = [plan(key=f"r{number}", tools=tools).tool_calls for number in range(30)]
    assert {len(calls) for calls in called} == {1}
    assert {calls[0].name for calls in called} == {"a", "b", "c"}


def test_parallel_calls_are_all() -> None:
    """Where parallel calls are asked for outright, every tool is called, in order."""
    found = plan(tools=[tool("a"), tool("b")], parallel_tool_calls=True)
    assert [call.name for call in found.tool_calls] == ["a", "b"]


def test_result_of_a_tool_is_answered_with_text() -> None:
    """After a tool's result comes the answer, so that every loop of an agent ends."""
    result = {"role": "tool", "tool_call_id": "c", "content": "4 stars"}
    found = plan(messages=[*ASKED["messages"], result], tools=[tool("a")], tool_choice="required")
    assert found.tool_calls == ()
    assert json.loads(found.reply)["label"] == "positive"


@settings(deadline=None)
@given(st.integers(1, 60))
def test_limit_cuts_calls(limit: int) -> None:
    """No limit is passed by calls: the one that reaches it is cut and is the last."""
    found = plan(
        tools=[tool("a", SCHEMA), tool("b", SCHEMA)], parallel_tool_calls=True, max_tokens=limit
    )
    spoken = sum(estimate(call.arguments) for call in found.tool_calls)
    assert spoken <= limit + len(found.tool_calls)
    whole = plan(tools=[tool("a", SCHEMA), tool("b", SCHEMA)], parallel_tool_calls=True)
    if found.finish_reason == "tool_calls":
        assert found.tool_calls == whole.tool_calls[: len(found.tool_calls)]
    else:
        assert whole.tool_calls[len(found.tool_calls) - 1].arguments.startswith(
            found.tool_calls[-1].arguments
        )


@pytest.mark.parametrize("fault", [EmptyContent(rate=1), FinishError(rate=1)])
def test_faults_take_calls_away_too(fault: Any) -> None:
    """What leaves no text leaves no call either."""
    upstream = Upstream(faults={"f": fault})
    found = plan(upstream, tools=[tool("a", SCHEMA)])
    assert (found.tool_calls, found.injected) == ((), ("f",))


def test_mark_is_for_texts() -> None:
    """A fault of encoding puts no text beside a call."""
    found = plan(Upstream(faults={"f": SplitUtf8(rate=1)}), tools=[tool("a")])
    assert (found.reply, len(found.tool_calls)) == ("", 1)
