"""Our own client against every fault, on the virtual clock: through, or failed in bounded time."""

import pytest
from jobs import BY_NAME, faulty, items, ran, settings, stops

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

LIMIT_S = 30.0
LATE = ("attempt_timeout", LIMIT_S)
# Error word and seconds of a whole answer, then of a stream; a good one takes a second.
VERDICTS: list[tuple[Fault, tuple[str, float], tuple[str, float]]] = [
    (HangBeforeHeaders(rate=1), LATE, LATE),
    (HangAfterHeaders(rate=1), LATE, LATE),
    (HangMidStream(rate=1), LATE, LATE),
    (KeepAliveHang(rate=1), LATE, LATE),
    (KeepAliveHang(rate=1, share=0.5), LATE, LATE),
    (WhitespaceThenEof(rate=1), ("empty_body", 10), ("missing_done", 10)),
    (UnclosedBody(rate=1), LATE, ("", 2)),  # after its end mark a stream has a second to end
    (SlowTrickle(rate=1), LATE, LATE),
    (SlowTrickle(rate=1, over_s=20), ("", 21), ("", 21)),
    (ConnectionReset(rate=1), ("disconnected", 0), ("disconnected", 0)),
    (ConnectionReset(rate=1, at="body"), ("truncated", 1), ("truncated", 1)),
    (PrematureEof(rate=1), ("truncated", 1), ("truncated", 1)),
    (PrematureEof(rate=1, framing="length"), ("truncated", 1), ("truncated", 1)),
    (NoDone(rate=1), ("", 1), ("missing_done", 1)),
    (TruncatedJson(rate=1), ("truncated_json", 1), ("truncated_json", 1)),
    (HtmlError(rate=1, status=522), ("http_522", 0), ("http_522", 0)),
    (HtmlError(rate=1, status=200), ("html", 0), ("html", 0)),
    (WrongContentType(rate=1), ("", 1), ("", 1)),
    (SseForJson(rate=1), ("sse_for_json", 1), ("", 1)),
    (ErrorIn200(rate=1), ("upstream_error", 1), ("upstream_error", 1)),
    (EmptyChoices(rate=1), ("empty_choices", 1), ("empty_content", 1)),
    (EmptyContent(rate=1), ("empty_content", 1), ("empty_content", 1)),
    (FinishError(rate=1), ("finish_error", 1), ("upstream_error", 1)),
    (FinishError(rate=1, variant="usage_chunk"), ("finish_error", 1), ("upstream_error", 1)),
    (FinishError(rate=1, variant="string_code"), ("finish_error", 1), ("upstream_error", 1)),
    (RateLimited(rate=1), ("http_429", 0), ("http_429", 0)),
    (NoCredit(rate=1), ("http_402", 0), ("http_402", 0)),
    (Moderation(rate=1), ("http_403", 0), ("http_403", 0)),
    (Rejected(rate=1), ("http_404", 0), ("http_404", 0)),
    (Rejected(rate=1, status=413), ("http_413", 0), ("http_413", 0)),
    (Rejected(rate=1, status=422), ("http_422", 0), ("http_422", 0)),
    (ServerError(rate=1, status=408), ("http_408", 0), ("http_408", 0)),
    (DuplicatedChunks(rate=1), ("", 1), ("", 1)),
    (SplitUtf8(rate=1), ("", 1), ("", 1)),
    (InvalidUtf8(rate=1), ("not_utf8", 1), ("not_utf8", 1)),
    (IdleRace(rate=1), ("", 1), ("", 1)),  # nobody has used the first connection before
    (TlsStall(rate=1), LATE, LATE),
    (DnsFailure(rate=1), ("dns_failure", 0), ("dns_failure", 0)),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "whole", "streamed"), VERDICTS, ids=[type(one[0]).__name__ for one in VERDICTS]
)
def test_client_judges_a_fault_in_bounded_time(
    fault: Fault, whole: tuple[str, float], streamed: tuple[str, float], stream: bool
) -> None:
    """Every fault ends with an answer or a word for it, in time, and leaks nothing."""
    chosen = settings(stream=stream, attempt_timeout_s=LIMIT_S)
    (row,) = ran(items(1), chosen, faulty(fault), base_url=BY_NAME).rows
    word, at_s = streamed if stream else whole
    assert (row.error, row.outcome == "ok") == (word, not word)
    assert row.t_end == pytest.approx(at_s, abs=0.06)


def test_no_fault_is_missing() -> None:
    """Every kind of fault has its verdict."""
    assert {type(fault) for fault, _, _ in VERDICTS} == set(Fault.__args__)


@pytest.mark.parametrize("fault", [one[0] for one in VERDICTS], ids=lambda one: type(one).__name__)
def test_retry_gets_through_once_the_fault_is_over(fault: Fault) -> None:
    """The next attempt has its answer on a sound connection; only some 4xx are not tried again."""
    once: Fault = type(fault)(rate=1, first_n=1)
    again = settings(retries=1, attempt_timeout_s=LIMIT_S)
    result = ran(items(1), again, faulty(once), base_url=BY_NAME)
    final = {Moderation: "http_403", Rejected: "http_404"}
    assert result.rows[-1].error == final.get(type(fault), "")


def test_broken_text_keeps_its_label_or_is_refused() -> None:
    """A character cut in two is put together again: the label is the same as without."""
    labels = [
        ran(items(1), settings(stream=stream), faulty(*faults)).job.answers["r000000"].label
        for stream in (False, True)
        for faults in ((), (SplitUtf8(rate=1),))
    ]
    assert labels[0] is not None
    assert labels == [labels[0]] * 4


def test_keep_alives_do_not_keep_a_virtual_run_alive_for_ever() -> None:
    """Without a time limit the client waits six hours, and is then known never to be answered."""
    provider = faulty(KeepAliveHang(rate=1), keep_alive_s=60.0)
    result = ran(items(1), settings(attempt_timeout_s=None), provider)
    assert result.job.stopped == "never_answered"
    assert result.rows[-1].t_end == pytest.approx(6 * 3600 - 60, abs=61)


def test_client_that_leaves_ends_the_keep_alives() -> None:
    """A job that is stopped leaves no task of the mock behind, though the plan has hours to go."""
    result = ran(
        items(1), settings(attempt_timeout_s=None), faulty(KeepAliveHang(rate=1)), drive=stops(5.0)
    )
    assert [row.ended for row in result.seen] == ["client_left"]


def test_runs_with_every_fault_repeat() -> None:
    """With all faults at once the same seed gives the same rows on both sides, another others."""
    faults = [type(fault)(rate=0.03) for fault, _, _ in VERDICTS]
    chosen = settings(retries=2, concurrency=5, attempt_timeout_s=LIMIT_S, stream=True)
    one, same, other = (ran(items(100), chosen, faulty(*faults), seed=seed) for seed in (1, 1, 2))
    assert (one.rows == same.rows, one.rows == other.rows) == (True, False)
    injected = [row.injected for row in one.seen]
    assert injected == [row.injected for row in same.seen]
    assert len({name for names in injected for name in names}) > 15
