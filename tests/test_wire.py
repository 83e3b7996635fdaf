"""The mock's shapes against the official SDK's strict models, and when their bytes are due."""

import json
import re
from itertools import pairwise

from answers import CALL, CREATED, PLAN, STREAM, completion, dechunked, event_data, writes
from hypothesis import given, settings
from hypothesis import strategies as st
from openrouter.components import ChatResult, ChatStreamChunk, ModelsListResponse
from playing import played

from mock_llm import catalogue, envelope, wire
from mock_llm.config import Model, default_models
from mock_llm.framing import Framing
from mock_llm.plan import Plan
from mock_llm.playback import Playback
from mock_llm.timeline import timeline


def test_completion_is_what_the_sdk_expects() -> None:
    """The official SDK's strict model accepts a completion and finds the plan in it."""
    result = ChatResult.model_validate_json(completion(), strict=True)
    assert (result.model, result.created) == (CALL.model, CREATED)
    assert result.choices[0].message.content == PLAN.reply
    assert result.choices[0].finish_reason == "stop"
    assert result.usage is not None
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (550, 11)
    assert (result.usage.total_tokens, result.usage.cost) == (561, 0.001875)


def test_completion_has_every_key_of_a_recorded_one() -> None:
    """Keys, nulls and the split of the cost are those of OpenRouter's real answers."""
    body = json.loads(completion())
    assert list(body) == [
        *("id", "object", "created", "model", "provider", "system_fingerprint"),
        *("service_tier", "choices", "usage"),
    ]
    assert (body["provider"], body["system_fingerprint"]) == ("OpenAI", None)
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 50
    assert body["usage"]["cost_details"] == {
        "upstream_inference_cost": 0.001875,
        "upstream_inference_prompt_cost": 0.00165,
        "upstream_inference_completions_cost": 0.000225,
    }


def test_id_is_a_function_of_key_and_draw() -> None:
    """The same attempt has the same id in every run, another draw of it has another."""
    first, again, other = (wire.identity("k", draw, CREATED) for draw in (0, 0, 1))
    assert first == again
    assert first.id != other.id
    assert re.fullmatch(rf"gen-{CREATED}-[A-Za-z0-9]{{20}}", first.id)
    assert re.fullmatch(r"[0-9a-f]{16}", first.ray)


def test_key_may_be_any_header_value() -> None:
    """Bytes that are not UTF-8 in the key's header do not break the id."""
    assert wire.identity("\udcff", 0, CREATED) != wire.identity("\udcfe", 0, CREATED)


def test_provider_has_a_display_name() -> None:
    """Known authors have their own spelling, others a readable one."""
    names = [wire.provider_name(slug) for slug in ("anthropic/x", "meta-llama/x", "some-lab/x")]
    assert names == ["Anthropic", "Meta", "Some Lab"]


def test_models_list_is_what_the_sdk_expects() -> None:
    """The official SDK's strict model accepts the list; prices are plain decimals per token."""
    body = catalogue.models(default_models(), CREATED)
    listed = ModelsListResponse.model_validate_json(body, strict=True)
    assert (listed.total_count, listed.links.next) == (5, None)
    assert [model.id for model in listed.data] == list(default_models())
    pricing = listed.data[0].pricing
    assert (pricing.prompt, pricing.completion) == ("0.00000015", "0.0000006")


@settings(deadline=None)
@given(st.just(0.0) | st.floats(min_value=1e-6, max_value=1e6))
def test_prices_are_decimals_whatever_they_are(price: float) -> None:
    """A price per token has no exponent and loses nothing."""
    model = Model(prompt_usd_per_m=price, completion_usd_per_m=1)
    text = json.loads(catalogue.models({"a/b": model}, CREATED))["data"][0]["pricing"]["prompt"]
    assert re.fullmatch(r"\d+(\.\d+)?", text)
    assert abs(float(text) * 1e6 - price) <= 1e-9 * price


def test_every_chunk_is_what_the_sdk_expects() -> None:
    """The official SDK's strict model accepts all events of a stream."""
    _, body = dechunked(b"".join(write.data for write in writes(STREAM, PLAN)))
    chunks = [ChatStreamChunk.model_validate(data) for data in event_data(body)]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == PLAN.reply
    assert {chunk.choices[0].delta.role for chunk in chunks} == {"assistant"}
    assert [chunk.choices[0].finish_reason for chunk in chunks[-3:]] == [None, "stop", "stop"]
    assert chunks[-2].usage is None
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 561


def test_stream_has_line_feeds_only() -> None:
    """Server-sent events are separated as OpenRouter does: no carriage return, no event names."""
    head, body = dechunked(b"".join(write.data for write in writes(STREAM, PLAN)))
    assert b"Content-Type: text/event-stream\r\n" in head
    assert b"\r" not in body
    assert all(line[:6] in {b"", b"data: "} for line in body.split(b"\n"))


def test_stream_opens_at_once_and_comments_until_its_first_token() -> None:
    """The head is due at admission, a comment after every interval before the first token."""
    due = writes(STREAM, PLAN, keep_alive_s=0.4)
    comment = b"19\r\n: OPENROUTER PROCESSING\n\n\r\n"
    assert due[0].at_s == 0
    assert due[0].data.endswith(b"Transfer-Encoding: chunked\r\n\r\n")
    assert [(write.at_s, write.data) for write in due[1:3]] == [(0.4, comment), (0.8, comment)]
    assert (due[3].at_s, due[3].tokens) == (1.0, 1)


def test_stream_comments_between_its_events_too() -> None:
    """Whenever nothing was sent for the interval there is a comment, and each event begins anew."""
    plan = Plan(reply="a b c", completion_tokens=3, first_token_s=0.5, last_token_s=2.5)
    due = writes(STREAM, plan, keep_alive_s=0.4)
    kinds = "".join("c" if b"PROCESSING" in write.data else "e" for write in due[1:])
    assert kinds == "ceccecce"
    assert [round(write.at_s, 9) for write in due[1:]] == [0.4, 0.5, 0.9, 1.3, 1.5, 1.9, 2.3, 2.5]
    _, body = dechunked(b"".join(write.data for write in due))
    assert len(event_data(body)) == 5


def test_what_may_take_longer_can_be_opened() -> None:
    """An answer whose provider shares its speed has white space and a whole response at hand."""
    script = timeline(CALL, PLAN, CREATED, keep_alive_s=9.0, elastic=True)
    (write,) = played(script)
    assert write.data == played(timeline(CALL, PLAN, CREATED, keep_alive_s=9.0))[0].data
    playback = Playback(script, 0.0)
    assert playback.write is not None
    body = playback.tick() + playback.content(playback.write, 10.0)
    assert json.loads(dechunked(body)[1])["object"] == "chat.completion"


def test_tokens_are_evenly_spaced() -> None:
    """As many pieces as tokens leave one by one, and the end leaves with the last of them."""
    due = [write for write in writes(STREAM, PLAN) if write.tokens]
    assert [write.tokens for write in due] == list(range(1, 12))
    assert [round(write.at_s, 9) for write in due] == [1 + number / 10 for number in range(11)]
    assert due[-1].at_s == PLAN.last_token_s
    assert due[-1].data.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@settings(deadline=None)
@given(st.floats(0, 100), st.floats(1e-3, 100), st.integers(2, 30))
def test_the_end_leaves_with_the_last_token(first_s: float, span_s: float, tokens: int) -> None:
    """Rounding never tears what ends a stream from its last token."""
    end_s = first_s + span_s
    plan = Plan(
        reply="w " * tokens, completion_tokens=tokens, first_token_s=first_s, last_token_s=end_s
    )
    due = [write for write in writes(STREAM, plan) if write.tokens]
    assert len(due) == tokens
    assert due[-1].at_s == end_s


def test_what_is_due_at_one_instant_leaves_in_one_write() -> None:
    """A stream that has no delays at all is a single write."""
    plan = Plan(reply="a few words", completion_tokens=3)
    assert [write.at_s for write in writes(STREAM, plan)] == [0.0]


@settings(deadline=None)
@given(
    reply=st.text(st.characters(codec="utf-8"), max_size=60),
    tokens=st.integers(1, 40),
    first_s=st.floats(0, 100),
    span_s=st.floats(0, 100),
)
def test_a_stream_loses_nothing(reply: str, tokens: int, first_s: float, span_s: float) -> None:
    """Whatever the reply and its count of tokens, all the text arrives in order and in time."""
    end_s = first_s + span_s
    plan = Plan(
        reply=reply, completion_tokens=tokens, first_token_s=first_s, last_token_s=end_s, draw=0
    )
    due = writes(STREAM, plan, keep_alive_s=7.0)
    _, body = dechunked(b"".join(write.data for write in due))
    text = "".join(data["choices"][0]["delta"]["content"] for data in event_data(body))
    assert text == reply
    assert all(a.at_s < b.at_s and a.tokens <= b.tokens for a, b in pairwise(due))
    assert (due[-1].at_s, due[-1].tokens) == (end_s, tokens)
    first = next(write for write in due if b'"content":"' in write.data)
    assert first.at_s == (first_s if reply else end_s)
    assert first.tokens > 0


def test_quick_answer_is_one_plain_response() -> None:
    """An answer within the keep-alive interval has a length and no whitespace."""
    (write,) = writes(CALL, PLAN, keep_alive_s=2.0)
    head, _, body = write.data.partition(b"\r\n\r\n")
    assert (write.at_s, write.tokens) == (2.0, 11)
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"X-Generation-Id: " + json.loads(body)["id"].encode() in head
    assert b"Server: cloudflare\r\nAccess-Control-Allow-Origin: *" in head


def test_slow_answer_opens_with_whitespace() -> None:
    """A slow answer is a 200 with eleven bytes of whitespace an interval, then the JSON."""
    due = writes(CALL, PLAN, keep_alive_s=0.4)
    assert [round(write.at_s, 9) for write in due] == [0.4, 0.8, 1.2, 1.6, 2.0]
    assert due[0].data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [write.data for write in due[1:4]] == [b"b\r\n\n         \n\r\n"] * 3
    _, body = dechunked(b"".join(write.data for write in due))
    assert body[:44] == b"\n         \n" * 4
    assert ChatResult.model_validate_json(body[44:], strict=True).choices[0].index == 0


def test_silence_when_there_is_no_keep_alive() -> None:
    """Without an interval a slow answer comes whole, at its end."""
    assert [write.at_s for write in writes(CALL, PLAN)] == [2.0]


def test_hang_sends_nothing() -> None:
    """A hang has no byte to send, streamed or not."""
    plan = Plan(ending="hang", reply="never", completion_tokens=1, last_token_s=9.0)
    assert writes(CALL, plan, 0.4) == []
    assert writes(STREAM, plan, 0.4) == []


def test_refusal_comes_alone_when_it_is_ready() -> None:
    """A refusal has no keep-alives before it, and its status is that of its envelope."""
    plan = Plan(
        status=503,
        error="provider_overloaded",
        message="Service temporarily unavailable",
        ending="refused",
        first_token_s=3.0,
    )
    (write,) = writes(STREAM, plan, keep_alive_s=0.4)
    head, _, body = write.data.partition(b"\r\n\r\n")
    assert write.at_s == 3.0
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json")
    assert json.loads(body)["error"] == {
        "code": 503,
        "message": "Service temporarily unavailable",
        "metadata": {"error_type": "provider_overloaded", "provider_name": "OpenAI"},
    }


def test_throttled_is_told_how_long_in_two_places() -> None:
    """A 429 has whole seconds, rounded up, in a header, and the raw ones in its metadata."""
    plan = Plan(
        status=429,
        error="rate_limit_exceeded",
        message="Rate limit exceeded",
        retry_after_s=16.007,
        ending="refused",
    )
    refusal = envelope.planned(CALL, plan)
    error = json.loads(refusal.body)["error"]
    assert (refusal.status, refusal.fields) == (429, b"Retry-After: 17\r\n")
    assert (error["code"], error["message"]) == (429, "Rate limit exceeded")
    assert error["metadata"] == {
        "error_type": "rate_limit_exceeded",
        "raw": "openai/gpt-4o-mini is temporarily rate-limited upstream. Please retry shortly.",
        "provider_name": "OpenAI",
        "is_byok": False,
        "retry_after_seconds": 17,
        "retry_after_seconds_raw": 16.007,
        "headers": {"Retry-After": "17"},
    }


def test_throttled_without_a_hint() -> None:
    """A 429 whose wait is unknown has neither header nor seconds."""
    plan = Plan(status=429, error="rate_limit_exceeded", ending="refused")
    refusal = envelope.planned(CALL, plan)
    assert refusal.fields == b""
    assert "headers" not in json.loads(refusal.body)["error"]["metadata"]


def test_old_client_is_told_the_end_by_closing() -> None:
    """Towards HTTP/1.0 nothing is chunked."""
    frame = Framing(chunked=False, close=True)
    due = played(timeline(STREAM, PLAN, CREATED, keep_alive_s=None, frame=frame))
    head, _, body = b"".join(write.data for write in due).partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert head.endswith(b"Connection: close")
    assert len(event_data(body)) == 13
