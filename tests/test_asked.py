"""What a request may ask for, from body to call: understood, refused by name, or ignored."""

import json
from typing import Any

import pytest
from loopback import QUESTION, mock, post, run

from mock_llm.chat import Reader, read_chat
from mock_llm.config import Upstream
from mock_llm.envelope import BadRequest, NoEndpoints
from mock_llm.plan import Call
from mock_llm.wants import Wants

MINI, HAIKU, TURBO = "openai/gpt-4o-mini", "anthropic/claude-3-haiku", "openai/gpt-3.5-turbo"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look a product up.",
        "parameters": {
            "type": "object",
            "properties": {"id": {"type": "integer"}},
            "required": ["id"],
        },
    },
}
OTHER: dict[str, Any] = {"type": "function", "function": {"name": "other"}}


def call(**body: Any) -> Call:
    chat = read_chat(json.dumps({**QUESTION, **body}).encode())
    return Reader(Upstream()).call(chat, key="r", account="a", new_connection=False)


def wanted(**body: Any) -> Wants:
    found = call(**body).wants
    assert found is not None
    return found


def test_plain_request_wants_nothing() -> None:
    """A request without wishes costs no thought about them."""
    assert call(temperature=1, top_p=0.5, seed=7, user="u", metadata={"a": "b"}).wants is None


def test_stop_is_a_text_or_a_few() -> None:
    """One stop or a list of four are taken, empty ones are nothing."""
    assert wanted(stop="\n").stop == ("\n",)
    assert wanted(stop=["a", "", "b"]).stop == ("a", "b")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"stop": ["a", "b", "c", "d", "e"]}, "$.stop"),
        ({"temperature": 2.1}, "$.temperature"),
        ({"temperature": "hot"}, "$.temperature"),
        ({"top_p": -0.1}, "$.top_p"),
        ({"seed": 0.5}, "$.seed"),
        ({"max_tokens": 0}, "$.max_tokens"),
        ({"session_id": "s" * 257}, "$.session_id"),
        ({"metadata": {str(number): "" for number in range(17)}}, "$.metadata"),
        ({"metadata": {"a": 1}}, "$.metadata"),
        ({"response_format": {"type": "grammar"}}, "$.response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "$.response_format"),
        ({"tools": [{"function": {"name": ""}}]}, "$.tools[0].function.name"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "$.tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"function": {"name": "x"}}}, "$.tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "$.tool_choice"),
        ({"provider": {"max_price": {"prompt": "cheap"}}}, "$.provider.max_price"),
        ({"messages": [{"role": "nobody", "content": ""}]}, "$.messages[0].role"),
    ],
)
def test_bad_value_is_refused_by_its_name(body: dict[str, Any], field: str) -> None:
    """What has the wrong type, or too much of it, is a bad request that names its field."""
    with pytest.raises(BadRequest) as caught:
        call(**body)
    assert field in str(caught.value)


def test_what_nobody_needs_is_ignored() -> None:
    """Unknown keys, keys without effect and nulls of known ones change nothing."""
    nothing = dict.fromkeys(("stop", "tools", "tool_choice", "provider", "models", "seed"))
    extra = {"n": 3, "transforms": ["x"], "usage": {"include": True}, "plugins": 5}
    assert call(**nothing, **extra) == call()


def test_conversation_with_tools_is_read() -> None:
    """Calls of the assistant, results of tools and content in parts are messages as well."""
    calls = [{"id": "c", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}]
    messages = [
        {"role": "developer", "content": "Be brief."},
        *QUESTION["messages"],
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "4 stars"}]},
    ]
    found = call(messages=messages, tools=[TOOL])
    assert found.text == QUESTION["messages"][0]["content"]
    assert found.wants == Wants()
    assert found.prompt_tokens > call(messages=messages[:3]).prompt_tokens


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("auto", ["look_up", "other"]),
        (None, ["look_up", "other"]),
        ("required", ["look_up", "other"]),
        ("none", []),
        ({"type": "function", "function": {"name": "other"}}, ["other"]),
    ],
)
def test_which_tools_may_be_called(choice: object, names: list[str]) -> None:
    """Every tool may be, the one that is named, or none."""
    server_tool = {"type": "openrouter:web_search"}
    found = wanted(tools=[TOOL, server_tool, OTHER], tool_choice=choice)
    assert [tool.name for tool in found.tools] == names


def test_tools_are_part_of_the_prompt() -> None:
    """The description of the tools is counted, and billed, as the prompt is."""
    assert call(tools=[TOOL]).prompt_tokens > call().prompt_tokens + 20


@pytest.mark.parametrize(
    ("body", "models"),
    [
        ({"model": MINI, "models": [HAIKU, TURBO]}, [MINI, HAIKU, TURBO]),
        ({"models": [HAIKU, HAIKU, MINI]}, [HAIKU, MINI]),
        ({"model": "no/such", "models": ["nor/this", HAIKU, MINI]}, [HAIKU, MINI]),
        ({"model": "no/such", "models": ["nor/this"]}, ["no/such"]),
        ({"model": MINI, "models": [HAIKU], "provider": {"only": ["Anthropic"]}}, [HAIKU]),
        ({"model": MINI, "models": [HAIKU], "provider": {"ignore": ["openai"]}}, [HAIKU]),
        ({"model": MINI, "models": [HAIKU], "provider": {"allow_fallbacks": False}}, [MINI]),
        ({"model": MINI, "provider": {"order": ["Azure", "OpenAI"]}}, [MINI]),
        ({"model": MINI, "provider": {"max_price": {"prompt": 0.15, "completion": "1"}}}, [MINI]),
        ({"model": TURBO, "models": [MINI], "provider": {"max_price": {"prompt": 0.2}}}, [MINI]),
        ({"provider": {}}, [MINI]),
    ],
)
def test_models_that_may_serve(body: dict[str, Any], models: list[str]) -> None:
    """The first on offer that is not excluded serves, and the others stand by in their order."""
    found = call(**body)
    assert [found.model, *found.fallbacks] == models


def test_long_prompt_goes_to_a_model_that_holds_it() -> None:
    """A context that is too short is passed over, unless none is longer."""
    messages = [{"role": "user", "content": "word " * 20_000}]
    assert call(messages=messages, models=[TURBO, HAIKU]).model == HAIKU
    assert call(messages=messages, models=[TURBO]).model == TURBO


@pytest.mark.parametrize(
    "provider",
    [
        {"only": ["Groq"]},
        {"ignore": ["OpenAI"]},
        {"order": ["Azure"], "allow_fallbacks": False},
        {"max_price": {"completion": 0.5}},
    ],
)
def test_excluded_provider_is_a_404(provider: dict[str, Any]) -> None:
    """When all that could serve are excluded there is no endpoint."""
    with pytest.raises(NoEndpoints, match="No endpoints found for openai/gpt-4o-mini that"):
        call(model=MINI, provider=provider)


def test_refusals_over_the_wire() -> None:
    """A wish that cannot be met is a 400 or 404 in the envelope, and a row in the ledger."""
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}
    user_only = {"provider": {"only": ["Groq"]}}

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            many = await client.error(post({**QUESTION, "stop": list("abcde")}))
            none = await client.error(post({**QUESTION, **user_only}))
            made = await client.error(post({**QUESTION, "response_format": schema}))
            rows = await running.rows(3)
        assert many[:2] == (400, "invalid_request")
        assert "$.stop" in many[2]
        assert none[:2] == (404, "not_found")
        assert made == (
            400,
            "invalid_request",
            "Invalid schema: the keyword `not` at $ is not imitated",
        )
        assert [(row.status, row.ended) for row in rows] == [
            (400, "refused"),
            (404, "refused"),
            (400, "refused"),
        ]

    run(test())
