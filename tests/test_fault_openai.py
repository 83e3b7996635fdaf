"""The official `openai` client with all its defaults against every fault, on the virtual clock."""

import itertools

import msgspec
import openai
import pytest
from loopback import QUESTION
from virtual_servers import PORT, the_loop

from harness.engines.virtual_loop import run_virtual
from mock_llm.config import Profile, Upstream
from mock_llm.faults import (
    ConnectionReset,
    DnsFailure,
    DuplicatedChunks,
    EmptyChoices,
    EmptyContent,
    ErrorIn200,
    Fault,
    FinishError,
    HangAfterHeaders,
    HangBeforeHeaders,
    HangMidStream,
    HtmlError,
    IdleRace,
    InvalidUtf8,
    KeepAliveHang,
    Moderation,
    NoCredit,
    NoDone,
    PrematureEof,
    RateLimited,
    Rejected,
    ServerError,
    SlowTrickle,
    SplitUtf8,
    SseForJson,
    TlsStall,
    TruncatedJson,
    UnclosedBody,
    WhitespaceThenEof,
    WrongContentType,
)
from mock_llm.server import MockServer

HOST = "mock"
GOOD = '{"label":"positive","confidence":0.93}'
MARKED = GOOD[:-1] + ',"mark":"\u2713"}'
HALF = GOOD[:19]
TWICE = '{"{"labellabel":"":"positivepositive","","confidenceconfidence":":00..9393}}'
SLOW, GONE = "APITimeoutError", "APIConnectionError"
BAD_TEXT, NOT_JSON, BROKEN = "UnicodeDecodeError", "JSONDecodeError", "APIError"
HOURS_S = 6 * 3600 - 60 + 600.0  # keep-alives, then a silence of ten minutes
SLOWLY = Upstream(profile=Profile(ttft=1.0), keep_alive_s=60.0)  # which keeps six hours short

# What it gives or raises, requests, and seconds to the end of each; of a whole answer, of a stream.
# A good answer takes a second.
Seen = tuple[str, int, float]
SEEN: list[tuple[Fault, Seen, Seen]] = [
    (HangBeforeHeaders(rate=1), (SLOW, 3, 600), (SLOW, 3, 600)),
    (HangAfterHeaders(rate=1), (SLOW, 3, 600), (SLOW, 1, 600)),
    (HangMidStream(rate=1), (SLOW, 3, 601), (SLOW, 1, 601)),
    (KeepAliveHang(rate=1), (SLOW, 3, HOURS_S), (SLOW, 1, HOURS_S)),
    (WhitespaceThenEof(rate=1), (NOT_JSON, 1, 10), ("", 1, 10)),
    (UnclosedBody(rate=1), (SLOW, 3, 601), (GOOD, 1, 1)),
    (SlowTrickle(rate=1), (GOOD, 1, 121), (GOOD, 1, 121)),
    (ConnectionReset(rate=1), (GONE, 3, 0), (GONE, 3, 0)),
    (ConnectionReset(rate=1, at="body"), (GONE, 3, 1), (GONE, 1, 1)),
    (PrematureEof(rate=1), (GONE, 3, 1), (GONE, 1, 1)),
    (NoDone(rate=1), (GOOD, 1, 1), (GOOD, 1, 1)),
    (NoDone(rate=1, after_chunks=3), (GOOD, 1, 1), ('{"label":"', 1, 1)),
    (TruncatedJson(rate=1), (NOT_JSON, 1, 1), ('{"label":"positive","', 1, 1)),
    (HtmlError(rate=1), ("InternalServerError", 3, 0), ("InternalServerError", 3, 0)),
    (HtmlError(rate=1, status=200), ("<!DOCTYPE html>", 1, 0), ("", 1, 0)),
    (WrongContentType(rate=1), (GOOD, 1, 1), (GOOD, 1, 1)),
    (SseForJson(rate=1), ('data: {"id":"gen', 1, 1), (GOOD, 1, 1)),
    (ErrorIn200(rate=1), ("choices=None", 1, 1), (BROKEN, 1, 1)),
    (EmptyChoices(rate=1), ("choices=[]", 1, 1), ("", 1, 1)),
    (EmptyContent(rate=1), ("None", 1, 1), ("", 1, 1)),
    (FinishError(rate=1), (HALF, 1, 1), (BROKEN, 1, 1)),
    (RateLimited(rate=1, form="bare"), ("RateLimitError", 3, 0), ("RateLimitError", 3, 0)),
    (NoCredit(rate=1), ("APIStatusError", 1, 0), ("APIStatusError", 1, 0)),
    (Moderation(rate=1), ("PermissionDeniedError", 1, 0), ("PermissionDeniedError", 1, 0)),
    (Rejected(rate=1), ("NotFoundError", 1, 0), ("NotFoundError", 1, 0)),
    (ServerError(rate=1), ("InternalServerError", 3, 0), ("InternalServerError", 3, 0)),
    (ServerError(rate=1, status=408), ("APIStatusError", 3, 0), ("APIStatusError", 3, 0)),
    (DuplicatedChunks(rate=1), (GOOD, 1, 1), (TWICE, 1, 1)),
    (SplitUtf8(rate=1), (MARKED, 1, 1), (MARKED, 1, 1)),
    (InvalidUtf8(rate=1), (BAD_TEXT, 1, 1), (BAD_TEXT, 1, 1)),
    (IdleRace(rate=1), (GOOD, 1, 1), (GOOD, 1, 1)),  # its first connection has no past
    (TlsStall(rate=1), (SLOW, 3, 5), (SLOW, 3, 5)),
    (DnsFailure(rate=1), (GONE, 0, 0), (GONE, 0, 0)),
]


async def _called(fault: Fault, *, stream: bool) -> tuple[str, list[float], float]:
    """What the client gives or raises, when its requests began, and when it was done."""
    server = MockServer(msgspec.structs.replace(SLOWLY, faults={"f": fault}), transit=False)
    loop, look_ups = the_loop(), server.network.look_ups
    loop.route(HOST, PORT, server.protocol_factory)
    loop.look_up_fails = lambda: look_ups.strikes(loop.time()) is not None
    url = f"http://{HOST}:{PORT}/api/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="key-1") as client:
        try:
            given = await _given(client, stream=stream)
        except (openai.OpenAIError, ValueError) as error:
            given = type(error).__name__
    now = loop.time()
    await server.close()
    return given, sorted(row.arrived_s for row in server.ledger.rows), now


async def _given(client: openai.AsyncOpenAI, *, stream: bool) -> str:
    model, messages = "openai/gpt-4o-mini", QUESTION["messages"]
    if stream:
        chunks = await client.chat.completions.create(model=model, messages=messages, stream=True)
        return "".join([c.choices[0].delta.content or "" async for c in chunks if c.choices])
    found: object = await client.chat.completions.create(model=model, messages=messages)
    if isinstance(found, str):
        return found[:16].strip()
    choices = getattr(found, "choices", None)
    return str(choices[0].message.content) if choices else f"choices={choices}"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "whole", "streamed"), SEEN, ids=[type(one[0]).__name__ for one in SEEN]
)
def test_what_it_gives_and_how_often_it_asks(
    fault: Fault, whole: Seen, streamed: Seen, stream: bool
) -> None:
    """It waits 600 s on each read and 5 s for a connection, and has two retries if any."""
    given, began, now = run_virtual(_called(fault, stream=stream))
    expected, requests, each_s = streamed if stream else whole
    assert (given, len(began)) == (expected, requests)
    pauses = [after - before - each_s for before, after in itertools.pairwise(began)]
    # Half a second, then one, less up to a quarter.
    for longest, pause in zip((0.5, 1.0), pauses, strict=False):
        assert 0.75 * longest - 0.01 <= pause <= longest + 0.11, pauses
    if began:
        assert now - began[-1] == pytest.approx(each_s, abs=0.5)


def test_every_fault_has_its_row() -> None:
    """No kind of fault is missing from the table."""
    assert {type(fault) for fault, _, _ in SEEN} == set(Fault.__args__)


@pytest.mark.parametrize(
    ("wait_s", "told_s", "requests"),
    [(7.0, 7, 3), (16.007, 17, 3), (120.0, 120, 3), (120.5, 121, 1)],
)
def test_a_told_wait_is_kept_to_the_second(wait_s: float, told_s: int, requests: int) -> None:
    """It waits for what Retry-After says up to 120 s, and more than that ends the call."""
    fault = RateLimited(rate=1, after_s=0.0, retry_after_s=wait_s)
    given, began, _ = run_virtual(_called(fault, stream=False))
    assert (given, len(began)) == ("RateLimitError", requests)
    assert began == pytest.approx([told_s * number for number in range(requests)], abs=0.01)
