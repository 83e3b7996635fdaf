"""Every fault on the wire, byte by byte, as a raw socket hears it over loopback."""

from typing import NamedTuple

import pytest
from fault_bytes import (
    COMMENT,
    DONE,
    END,
    FREE,
    KEEP_ALIVE,
    PIECES,
    PROMPT_ONLY,
    REPLY,
    Ids,
    Said,
    answer,
    chunks,
    event,
    head,
    hear,
    ids_of,
    last,
    page,
    refusal,
    texts,
    upstream,
    usage,
    whole,
)
from loopback import QUESTION, mock, post, run

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

SSE = "text/event-stream"
MARKED = REPLY[:-1] + ',"mark":"\xe2\x9c\x93"}'  # a check mark, one character a byte
MARKED_PIECES = (*PIECES[:10], ',"', "mark", '":"\xe2\x9c\x93"}')
UPSTREAM_ERROR = (
    '{"code":502,"message":"Provider returned error",'
    '"metadata":{"error_type":"provider_unavailable"}}'
)
BARE_ERROR = '"error":{"message":"Upstream error: Provider returned error","code":502}'
STRING_CODE = UPSTREAM_ERROR.replace("502", '"server_error"')
ERROR_502 = UPSTREAM_ERROR[:-2] + ',"provider_name":"OpenAI"}}'
ERROR_529 = ERROR_502.replace("502", "529").replace("_unavailable", "_overloaded")
ERROR_408 = (
    '{"code":408,"message":"Operation timed out. Please try again later.",'
    '"metadata":{"error_type":"timeout"}}'
)
ERROR_402 = (
    '{"code":402,"message":"This request requires more credits, or fewer max_tokens.",'
    '"metadata":{"error_type":"payment_required","reason":"in_flight_budget_exhausted",'
    '"limit_source":"openrouter_in_flight_budget"}}'
)
ERROR_403 = (
    '{"code":403,"message":"Your input was flagged for \\"hate\\", \\"violence\\". '
    'No credits were charged.","metadata":{"error_type":"permission_denied",'
    '"reasons":["hate","violence"],"flagged_input":"A great book, I loved it.",'
    '"provider_name":"OpenAI","model_slug":"openai/gpt-4o-mini"}}'
)
RAW = (
    '"raw":"openai/gpt-4o-mini is temporarily rate-limited upstream. Please retry shortly.",'
    '"provider_name":"OpenAI"'
)
HALF = usage(4, "0.0", "0.0")
CUT = ('{"', "label", '":"', "positive", '"')
INVALID = MARKED.replace("\x93", "")


class Case(NamedTuple):
    """A fault, what it makes of an answer, and what the mock says of it afterwards."""

    fault: Fault
    stream: bool
    left: str
    ended: str
    tokens: int
    said: Said


def _stream(ids: Ids, *events: str, end: str = END) -> str:
    return chunks(head(ids, SSE), *events, end=end)


def _good(ids: Ids) -> list[str]:
    return [*texts(ids, *PIECES), *last(ids), DONE]


def _marked(ids: Ids) -> list[str]:
    return [*texts(ids, *MARKED_PIECES), *last(ids), DONE]


def _half(text: str) -> str:
    return text[: len(text) // 2]


def _halves(text: str) -> list[str]:
    cut = text.index("\xe2") + 1
    return [text[:cut], text[cut:]]


def _split(events: list[str]) -> list[str]:
    return [part for one in events for part in (_halves(one) if "\xe2" in one else [one])]


def _drips(text: str) -> list[str]:
    return [text[start : start + 16] for start in range(0, len(text), 16)]


def _throttled(more: str, message: str = "Provider returned error") -> str:
    metadata = f'"error_type":"rate_limit_exceeded"{"," if more else ""}{more}'
    return f'{{"code":429,"message":"{message}","metadata":{{{metadata}}}}}'


def _rejected(status: int, error: str, message: str) -> str:
    return f'{{"code":{status},"message":"{message}","metadata":{{"error_type":"{error}"}}}}'


def _window(limit: int, reset_ms: int) -> str:
    return (
        f"X-RateLimit-Limit: {limit}\r\nX-RateLimit-Remaining: 0\r\n"
        f"X-RateLimit-Reset: {reset_ms}\r\n"
    )


# fmt: off
# A table is read by its rows: fault, stream, connection, end, billed tokens, bytes.
CASES = [
    Case(HangBeforeHeaders(rate=1), False, "open", "client_left", 8, lambda _: ""),
    Case(HangBeforeHeaders(rate=1), True, "open", "client_left", 0, lambda _: ""),
    Case(HangAfterHeaders(rate=1), False, "open", "client_left", 8,
         lambda i: chunks(head(i), end="")),
    Case(HangAfterHeaders(rate=1), True, "open", "client_left", 0, lambda i: _stream(i, end="")),
    Case(HangMidStream(rate=1), False, "open", "client_left", 8,
         lambda i: chunks(head(i), _half(answer(i)), end="")),
    Case(HangMidStream(rate=1), True, "open", "client_left", 3,
         lambda i: _stream(i, *texts(i, *PIECES[:5]), end="")),
    Case(HangMidStream(rate=1, after_chunks=2), True, "open", "client_left", 1,
         lambda i: _stream(i, *texts(i, *PIECES[:2]), end="")),
    Case(WhitespaceThenEof(rate=1, after_s=0.0035), False, "open", "broken", 0,
         lambda i: chunks(head(i), *[KEEP_ALIVE] * 3)),
    Case(WhitespaceThenEof(rate=1, after_s=0.0035), True, "open", "broken", 0,
         lambda i: _stream(i, *[COMMENT] * 3)),
    Case(UnclosedBody(rate=1), False, "open", "client_left", 8,
         lambda i: chunks(head(i), answer(i), end="")),
    Case(UnclosedBody(rate=1), True, "open", "client_left", 8,
         lambda i: _stream(i, *_good(i), end="")),
    Case(SlowTrickle(rate=1, over_s=0.01), False, "open", "complete", 8,
         lambda i: chunks(head(i), *_drips(answer(i)))),
    Case(SlowTrickle(rate=1, over_s=0.005), True, "open", "complete", 8,
         lambda i: _stream(i, *_good(i))),
    Case(ConnectionReset(rate=1), False, "reset", "broken", 0, lambda _: ""),
    Case(ConnectionReset(rate=1), True, "reset", "broken", 0, lambda _: ""),
    Case(PrematureEof(rate=1), False, "closed", "broken", 8,
         lambda i: chunks(head(i), _half(answer(i)), end="")),
    Case(PrematureEof(rate=1, framing="length"), False, "closed", "broken", 8,
         lambda i: whole(head(i), _half(answer(i)), len(answer(i)))),
    Case(PrematureEof(rate=1, after_chunks=1), True, "closed", "broken", 1,
         lambda i: _stream(i, *texts(i, PIECES[0]), end="")),
    Case(NoDone(rate=1), True, "open", "broken", 8, lambda i: _stream(i, *_good(i)[:-1])),
    Case(NoDone(rate=1, after_chunks=3), True, "open", "broken", 2,
         lambda i: _stream(i, *texts(i, *PIECES[:3]))),
    Case(TruncatedJson(rate=1), False, "open", "broken", 8,
         lambda i: whole(head(i), _half(answer(i)))),
    Case(TruncatedJson(rate=1), True, "open", "broken", 3,
         lambda i: _stream(i, *texts(i, *PIECES[:5]), _half(event(i, PIECES[5])))),
    Case(HtmlError(rate=1, status=502, after_s=0), False, "open", "refused", 0,
         lambda i: page(i, "502 Bad Gateway", "openrouter.ai | 502: Bad Gateway")),
    Case(HtmlError(rate=1, status=524, after_s=0), True, "open", "refused", 0,
         lambda i: page(i, "524 Unknown", "openrouter.ai | 524: A timeout occurred")),
    Case(HtmlError(rate=1, status=200, after_s=0), False, "open", "broken", 0,
         lambda i: page(i, "200 OK", "Just a moment...")),
    Case(HtmlError(rate=1, status=200, after_s=0), True, "open", "broken", 0,
         lambda i: page(i, "200 OK", "Just a moment...")),
    Case(WrongContentType(rate=1), False, "open", "complete", 8,
         lambda i: whole(head(i, "text/plain; charset=utf-8"), answer(i))),
    Case(WrongContentType(rate=1), True, "open", "complete", 8,
         lambda i: chunks(head(i), *_good(i))),
    Case(SseForJson(rate=1), False, "open", "broken", 8, lambda i: _stream(i, *_good(i))),
    Case(ErrorIn200(rate=1), False, "open", "broken", 0,
         lambda i: whole(head(i), f'{{"id":"{i.id}",{BARE_ERROR}}}')),
    Case(ErrorIn200(rate=1), True, "open", "broken", 0,
         lambda i: _stream(i, f'data: {{"id":"{i.id}",{BARE_ERROR}}}\n\n')),
    Case(EmptyChoices(rate=1), False, "open", "broken", 0,
         lambda i: whole(head(i), answer(i, choice=False, used=FREE))),
    Case(EmptyChoices(rate=1), True, "open", "broken", 0,
         lambda i: _stream(
             i, event(i, choice=False, more=f',"service_tier":null,"usage":{FREE}'), DONE)),
    Case(EmptyContent(rate=1), False, "open", "broken", 0,
         lambda i: whole(head(i), answer(i, None, used=PROMPT_ONLY))),
    Case(EmptyContent(rate=1), True, "open", "broken", 0,
         lambda i: _stream(i, *last(i, None, used=PROMPT_ONLY), DONE)),
    Case(EmptyContent(rate=1, content="empty", finish_reason="null"), False, "open", "broken", 0,
         lambda i: whole(head(i), answer(i, "", finish="null", used=FREE))),
    Case(EmptyContent(rate=1, content="empty", finish_reason="null"), True, "open", "broken", 0,
         lambda i: _stream(i, *last(i, "", "null", FREE), DONE)),
    Case(FinishError(rate=1), False, "open", "broken", 0,
         lambda i: whole(head(i), answer(
             i, REPLY[:19], finish='"error"', more=f',"error":{UPSTREAM_ERROR}', used=HALF))),
    Case(FinishError(rate=1), True, "open", "broken", 0,
         lambda i: _stream(
             i, *texts(i, *CUT), event(i, "", '"error"', f',"error":{UPSTREAM_ERROR}'))),
    Case(FinishError(rate=1, variant="usage_chunk"), True, "open", "broken", 0,
         lambda i: _stream(
             i, *texts(i, *CUT),
             event(i, more=f',"service_tier":null,"usage":{HALF},"error":{UPSTREAM_ERROR}'), DONE)),
    Case(FinishError(rate=1, variant="string_code"), True, "open", "broken", 0,
         lambda i: _stream(
             i, *texts(i, *CUT), event(i, "", '"error"', f',"error":{STRING_CODE}'))),
    Case(ConnectionReset(rate=1, at="body"), True, "reset", "broken", 3,
         lambda i: _stream(i, *texts(i, *PIECES[:5]), end="")),
    Case(ConnectionReset(rate=1, at="body"), False, "reset", "broken", 8,
         lambda i: chunks(head(i), _half(answer(i)), end="")),
    Case(DuplicatedChunks(rate=1), True, "open", "complete", 8,
         lambda i: _stream(
             i, *[one for one in texts(i, *PIECES) for _ in "12"], *last(i), DONE)),
    Case(SplitUtf8(rate=1), False, "open", "complete", 8,
         lambda i: chunks(head(i), *_halves(answer(i, MARKED)))),
    Case(SplitUtf8(rate=1), True, "open", "complete", 8,
         lambda i: _stream(i, *_split(_marked(i)))),
    Case(InvalidUtf8(rate=1), False, "open", "complete", 8,
         lambda i: whole(head(i), answer(i, INVALID), len(answer(i, INVALID)))),
    Case(InvalidUtf8(rate=1), True, "open", "complete", 8,
         lambda i: _stream(i, *[one.replace("\x93", "") for one in _marked(i)])),
    Case(ServerError(rate=1, status=502, after_s=0), False, "open", "refused", 0,
         lambda _: refusal("502 Bad Gateway", ERROR_502)),
    Case(ServerError(rate=1, status=408, after_s=0, retry_after_s=2.5), True, "open", "refused", 0,
         lambda _: refusal("408 Request Timeout", ERROR_408, "Retry-After: 3\r\n")),
    Case(ServerError(rate=1, status=529, after_s=0), False, "open", "refused", 0,
         lambda _: refusal("529 Unknown", ERROR_529)),
    Case(Moderation(rate=1, after_s=0, reasons=("hate", "violence")), True, "open", "refused", 0,
         lambda _: refusal("403 Forbidden", ERROR_403)),
    Case(Rejected(rate=1, after_s=0, status=400), False, "open", "refused", 0,
         lambda _: refusal("400 Bad Request", _rejected(
             400, "invalid_request", "Invalid request parameters"))),
    Case(Rejected(rate=1, after_s=0, status=401), False, "open", "refused", 0,
         lambda _: refusal("401 Unauthorized", _rejected(
             401, "authentication", "User not found."))),
    Case(Rejected(rate=1, after_s=0, status=402), False, "open", "refused", 0,
         lambda _: refusal("402 Payment Required", _rejected(
             402, "payment_required", "Insufficient credits. Add more and try again."))),
    Case(Rejected(rate=1, after_s=0), True, "open", "refused", 0,
         lambda _: refusal("404 Not Found", _rejected(
             404, "not_found", "No endpoints found that can serve this request."))),
    Case(Rejected(rate=1, after_s=0, status=413), False, "open", "refused", 0,
         lambda _: refusal("413 Request Entity Too Large", _rejected(
             413, "payload_too_large", "Request payload too large"))),
    Case(Rejected(rate=1, after_s=0, status=422), False, "open", "refused", 0,
         lambda _: refusal("422 Unprocessable Entity", _rejected(
             422, "unprocessable", "Invalid argument"))),
    Case(NoCredit(rate=1, after_s=0), False, "open", "refused", 0,
         lambda _: refusal("402 Payment Required", ERROR_402, "Retry-After: 5\r\n")),
    Case(RateLimited(rate=1, after_s=0), False, "open", "refused", 0,
         lambda _: refusal("429 Too Many Requests", _throttled(
             f'{RAW},"is_byok":false,"retry_after_seconds":17,"retry_after_seconds_raw":16.007,'
             '"headers":{"Retry-After":"17"}'), "Retry-After: 17\r\n")),
    Case(RateLimited(rate=1, after_s=0, hints="body"), False, "open", "refused", 0,
         lambda _: refusal("429 Too Many Requests", _throttled(
             f'{RAW},"is_byok":false,"retry_after_seconds":17,"retry_after_seconds_raw":16.007,'
             '"headers":{"Retry-After":"17"}'))),
    Case(RateLimited(rate=1, after_s=0, hints="headers"), False, "open", "refused", 0,
         lambda _: refusal("429 Too Many Requests", _throttled(
             f'{RAW},"is_byok":false'), "Retry-After: 17\r\n")),
    Case(RateLimited(rate=1, after_s=0, form="upstream_2025"), True, "open", "refused", 0,
         lambda _: refusal("429 Too Many Requests", _throttled(RAW))),
    Case(RateLimited(rate=1, after_s=0, form="bare"), False, "open", "refused", 0,
         lambda _: refusal("429 Too Many Requests", _throttled("", "Rate limit exceeded"))),
    Case(RateLimited(rate=1, after_s=0, form="free_per_day"), False, "open", "refused", 0,
         lambda _: refusal("429 Too Many Requests", _throttled(
             '"headers":{"X-RateLimit-Limit":"50","X-RateLimit-Remaining":"0",'
             '"X-RateLimit-Reset":"1793577600000"}', "Rate limit exceeded: free-models-per-day"),
             _window(50, 1793577600000))),
    Case(RateLimited(rate=1, after_s=0, form="free_per_minute", hints="headers"),
         False, "open", "refused", 0,
         lambda _: refusal("429 Too Many Requests", _throttled(
             "", "Rate limit exceeded: free-models-per-min"), _window(20, 1793491260000))),
]
# fmt: on


def _named(case: Case) -> str:
    return f"{type(case.fault).__name__}-{'stream' if case.stream else 'whole'}"


@pytest.mark.parametrize("case", CASES, ids=_named)
def test_what_the_wire_carries(case: Case) -> None:
    """A raw socket hears these bytes and no others, and the mock's row says how it ended."""

    async def check() -> None:
        heard = await hear(case.fault, stream=case.stream)
        assert heard.data == case.said(ids_of(heard.data))
        row = heard.row
        assert (heard.left, row.ended) == (case.left, case.ended)
        assert (row.completion_tokens, row.injected) == (case.tokens, ("fault 0",))

    run(check())


def test_every_fault_has_its_bytes_written_down() -> None:
    """No kind of fault is missing from the tables of this file."""
    told_below = {KeepAliveHang, IdleRace, TlsStall}
    told = {type(case.fault) for case in CASES} | told_below
    assert told | {DnsFailure} == set(Fault.__args__)  # which has no bytes at all


@pytest.mark.parametrize(
    ("fault", "stream", "before"),
    [
        (KeepAliveHang(rate=1), False, ""),
        (KeepAliveHang(rate=1), True, ""),
        (KeepAliveHang(rate=1, share=0.3), True, "text"),
    ],
)
def test_keep_alives_for_ever(fault: KeepAliveHang, stream: bool, before: str) -> None:
    """White space or comments go on, after as much text as was asked for, until the client goes."""

    async def check() -> None:
        async with mock(upstream(fault)) as running:
            client = await running.client()
            client.writer.write(post({**QUESTION, "stream": stream}))
            top = (await client.reader.readuntil(b"\r\n\r\n")).decode()
            ids = ids_of(top)
            text = texts(ids, *PIECES[:3]) if before else []
            kind, idle = (SSE, COMMENT) if stream else ("application/json", KEEP_ALIVE)
            expected = chunks(head(ids, kind), *text, *[idle] * 5, end="").encode()[len(top) :]
            assert await client.reader.readexactly(len(expected)) == expected
            await client.leave()
            (row,) = await running.rows(1)
            assert row.ended == "client_left"

    run(check())


@pytest.mark.parametrize(("fault", "stream"), [(NoDone(rate=1), False), (SseForJson(rate=1), True)])
def test_a_fault_of_the_other_kind_of_answer_does_not_strike(fault: Fault, stream: bool) -> None:
    """What makes sense for streams only, or for whole answers only, leaves the others alone."""

    async def check() -> None:
        heard = await hear(fault, stream=stream)
        assert (heard.row.injected, heard.row.ended) == ((), "complete")

    run(check())


def test_faults_of_form_add_up_and_go_with_an_ending() -> None:
    """Text that comes twice, in a badly labelled stream that falls silent, is three faults."""
    faults = (DuplicatedChunks(rate=1), WrongContentType(rate=1), HangMidStream(rate=1, share=0.2))

    async def check() -> None:
        for order in (faults, faults[::-1]):
            heard = await hear(*order, stream=True)
            ids = ids_of(heard.data)
            twice = [one for one in texts(ids, *PIECES[:2]) for _ in "12"]
            assert heard.data == chunks(head(ids), *twice, end="")
            assert heard.row.injected == ("fault 0", "fault 1", "fault 2")

    run(check())
