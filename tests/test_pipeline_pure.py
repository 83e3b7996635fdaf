"""The pipeline's pure parts: backoff, limits, contexts, caches, prompts, progress."""

from collections.abc import Sequence
from itertools import product
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import items, ran, reviews

from harness.pipeline.cache import cache_key
from harness.pipeline.context import Context, Exchange
from harness.pipeline.limits import SlidingWindow, UserLimits
from harness.pipeline.progress import Meter, Progress
from harness.pipeline.projection import prompt_tokens
from harness.pipeline.prompt import INSTRUCTIONS, contents, encode
from harness.pipeline.retry import backoff_s, may_pass
from harness.records import Record
from harness.scenario.pipeline import Backoff, Pipeline
from mock_llm.tokens import chat_tokens, estimate

Mode = Literal["trim", "grow", "send_all"] | None

uniforms = st.floats(0, 1, exclude_min=True, exclude_max=True)
failures = st.integers(1, 1_000)
backoffs = st.builds(
    Backoff,
    base_s=st.floats(0, 1e3),
    factor=st.floats(1, 100),
    cap_s=st.floats(0, 1e3),
    jitter=st.sampled_from(["full", "equal", None]),
    honour_retry_after=st.booleans(),
)


@pytest.mark.parametrize(
    ("jitter", "low", "high"), [("full", 0.0, 1.0), ("equal", 0.5, 1.0), (None, 1.0, 1.0)]
)
@given(backoff=backoffs, count=failures, u=uniforms)
def test_jitter_bounds(
    jitter: str | None, low: float, high: float, backoff: Backoff, count: int, u: float
) -> None:
    """Full jitter spreads over all of the delay, equal over its upper half, none not at all."""
    backoff = msgspec.structs.replace(backoff, jitter=jitter)
    whole = min(backoff.cap_s, backoff.base_s * backoff.factor ** min(count - 1, 64))
    wait = backoff_s(backoff, count, None, u)
    assert low * whole <= wait <= high * whole
    assert wait == pytest.approx(whole * (low + (high - low) * u))


@given(backoff=backoffs, count=failures, u=uniforms, previous_s=st.floats(0, 1e3))
def test_decorrelated_jitter_looks_at_the_wait_before(
    backoff: Backoff, count: int, u: float, previous_s: float
) -> None:
    """It is spread from the base to three times the wait before, up to the cap."""
    backoff = msgspec.structs.replace(backoff, jitter="decorrelated")
    wait = backoff_s(backoff, count, None, u, previous_s)
    base_s = backoff.base_s
    spread = base_s + u * (3 * max(base_s, previous_s) - base_s)
    assert wait == pytest.approx(min(backoff.cap_s, spread))
    assert min(base_s, backoff.cap_s) <= wait <= backoff.cap_s


@pytest.mark.parametrize(
    ("jitter", "expected"), [(None, 3.5), ("full", 1.75), ("equal", 2.63), ("decorrelated", 5.63)]
)
def test_mean_sleep_of_three_retries(
    jitter: Literal["full", "equal", "decorrelated"] | None, expected: float
) -> None:
    """Base 0.5 s and cap 20 s: the mean of all waits together is that of the literature."""
    backoff, middles = Backoff(jitter=jitter), [(n + 0.5) / 20 for n in range(20)]
    total = 0.0
    for us in product(middles, repeat=3):
        wait = 0.0
        for failed, u in enumerate(us, 1):
            wait = backoff_s(backoff, failed, None, u, wait)
            total += wait
    assert total / len(middles) ** 3 == pytest.approx(expected, abs=0.006)


@given(backoff=backoffs, count=failures, u=uniforms)
def test_backoff_grows_up_to_its_cap(backoff: Backoff, count: int, u: float) -> None:
    """One failure more never waits less, and none longer than the cap."""
    waits = [backoff_s(backoff, n, None, u) for n in (count, count + 1)]
    assert waits == sorted(waits)
    assert waits[1] <= backoff.cap_s


def test_backoff_doubles_from_its_base() -> None:
    """0.5 s, then twice as long each time, until 20 s."""
    plain = Backoff(jitter=None)
    waits = [backoff_s(plain, n, None, 0.5) for n in range(1, 9)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0]


@given(backoff=backoffs, count=failures, u=uniforms, hint=st.floats(0, 1e4))
def test_retry_after_is_a_floor(backoff: Backoff, count: int, u: float, hint: float) -> None:
    """A hint that is honoured is waited out before the backoff, one that is not changes nothing."""
    without = backoff_s(backoff, count, None, u)
    wait = backoff_s(backoff, count, hint, u)
    assert wait == (hint + without if backoff.honour_retry_after else without)


@pytest.mark.parametrize(
    ("statuses", "passes"),
    [
        ([None, 200, 408, 409, 429, 500, 502, 503, 520, 524, 529, 599], True),
        ([201, 301, 400, 401, 402, 403, 404, 413, 422, 499], False),
    ],
)
def test_what_may_pass(statuses: Sequence[int | None], passes: bool) -> None:
    """Broken connections, garbled answers, time-outs, throttles and 5xx pass; other 4xx do not."""
    assert [may_pass(status) for status in statuses] == [passes] * len(statuses)


# Multiples of 1/8 s are exact in binary, so the reference below is exact as well.
gaps = st.lists(st.integers(0, 200).map(lambda eighths: eighths / 8), max_size=60)


def moments(waits: list[float]) -> list[float]:
    return [sum(waits[: n + 1]) for n in range(len(waits))]


@given(waits=gaps, limit=st.integers(1, 5), window_s=st.sampled_from([1.0, 7.5, 60.0]))
def test_sliding_window_against_brute_force(
    waits: list[float], limit: int, window_s: float
) -> None:
    """Every start is the earliest that keeps order and fills no window past its limit."""
    window = SlidingWindow(limit, window_s)
    booked: list[float] = []
    for now in moments(waits):
        candidates = sorted([now, *(start + window_s for start in booked)])
        start = next(
            at
            for at in candidates
            if at >= max([now, *booked])
            and sum(at - window_s < other <= at for other in booked) < limit
        )
        booked.append(start)
        assert window.reserve(now) == start


@given(
    waits=st.lists(st.floats(0, 30), max_size=60),
    limit=st.integers(1, 4),
    window_s=st.floats(1e-3, 60),
)
def test_sliding_window_at_any_moment(waits: list[float], limit: int, window_s: float) -> None:
    """Of `limit` + 1 starts in a row the last is a whole window after the first."""
    window = SlidingWindow(limit, window_s)
    nows = moments(waits)
    starts = [window.reserve(now) for now in nows]
    assert starts == sorted(starts)
    assert all(start >= now for start, now in zip(starts, nows, strict=True))
    pairs = zip(starts, starts[limit:], strict=False)
    assert all(later >= first + window_s for first, later in pairs)


def test_users_have_windows_of_their_own() -> None:
    """What one user does makes no other wait."""
    limits = UserLimits(2, 60.0)
    assert [limits.reserve("a", 1.0) for _ in range(3)] == [1.0, 1.0, 61.0]
    assert limits.reserve("b", 1.0) == 1.0


numbers = st.integers(0, 40).flatmap(lambda n: st.permutations(range(n)))


def told(number: int) -> tuple[str, str]:
    return f"prompt {number}" + "é" * (number % 7), f"reply {number}"


def size_bytes(kept: Sequence[int]) -> int:
    return sum(len("".join(told(number)).encode()) for number in kept)


def sent(context: Context) -> list[tuple[int, str, str]]:
    return [(one.number, one.prompt, one.reply) for one in context.to_send()]


@given(order=numbers, k=st.integers(0, 6))
def test_trim_and_grow_send_the_same(order: list[int], k: int) -> None:
    """The last k of those that have ended, in input order, however they came; memory differs."""
    trim, grow, everything = Context("trim", k), Context("grow", k), Context("send_all", k)
    peak, seen = 0, list[int]()
    for number in order:
        for context in (trim, grow, everything):
            context.add(number, *told(number))
        seen = sorted([*seen, number])
        last = seen[-k:] if k else []
        peak = max(peak, size_bytes(last))
        assert sent(trim) == sent(grow) == [(n, *told(n)) for n in last]
        assert sent(everything) == [(n, *told(n)) for n in seen]
        assert (trim.size_bytes, trim.peak_bytes) == (size_bytes(last), peak)
        for context in (grow, everything):
            assert context.size_bytes == context.peak_bytes == size_bytes(seen)


def test_no_context_holds_nothing() -> None:
    """Without a context nothing is remembered and nothing is sent."""
    context = Context(None, 5)
    context.add(0, "prompt", "reply")
    assert (context.to_send(), context.size_bytes, context.peak_bytes) == ([], 0, 0)


def test_trim_can_forget_its_peak() -> None:
    """The peak is what was held at most, not what is held now."""
    context = Context("trim", 1)
    context.add(0, "a long prompt", "reply")
    context.add(1, "short", "reply")
    assert (context.size_bytes, context.peak_bytes) == (10, 18)


words = st.lists(st.text("ab \t\n\u3000é", max_size=6), max_size=4).map(" ".join)


@given(one=words, other=words)
def test_cache_key_normalises_white_space_alone(one: str, other: str) -> None:
    """Two texts share a key if, and only if, they differ in nothing but white space."""
    same = one.split() == other.split()
    assert (cache_key(one, "v", "m") == cache_key(other, "v", "m")) == same


@pytest.mark.parametrize(
    "parts",
    [("A b", "v", "m"), ("a b.", "v", "m"), ("ab", "v", "m"), ("a b", "w", "m"), ("a b", "v", "n")],
)
def test_cache_key_tells_the_rest_apart(parts: tuple[str, str, str]) -> None:
    """Case, punctuation, the router's version and the model count."""
    assert cache_key(*parts) != cache_key("a b", "v", "m")


class Sent(msgspec.Struct, forbid_unknown_fields=True):
    """A request's body, every key of it."""

    model: str
    messages: list[dict[str, str]]
    max_tokens: int | None = None
    stream: bool | None = None


def test_prompt_on_the_wire() -> None:
    """Instructions, then exchanges in turn, then the review; no key that was not asked for."""
    settings = Pipeline(instructions="Judge.", max_tokens=None)
    body = encode(settings, "m", [Exchange(0, "first", "good"), Exchange(1, "2nd", "bad")], "3rd")
    message = msgspec.json.decode(body, type=Sent)
    assert [(m["role"], m["content"]) for m in message.messages] == [
        ("system", "Judge."),
        ("user", "first"),
        ("assistant", "good"),
        ("user", "2nd"),
        ("assistant", "bad"),
        ("user", "3rd"),
    ]
    assert (message.model, message.max_tokens, message.stream) == ("m", None, None)
    assert set(msgspec.json.decode(body)) == {"model", "messages"}


def test_prompt_limits_and_stream() -> None:
    """A cap and a wish for a stream go along; built-in instructions are the default."""
    settings = Pipeline(max_tokens=60, stream=True)
    message = msgspec.json.decode(encode(settings, "m", [], "Good."), type=Sent)
    assert (message.max_tokens, message.stream) == (60, True)
    assert contents(settings, [], "Good.") == [INSTRUCTIONS, "Good."]


@pytest.mark.parametrize("mode", [None, "trim", "grow", "send_all"])
@pytest.mark.parametrize("k", [0, 1, 5])
def test_projection_is_what_the_provider_counts(mode: Mode, k: int) -> None:
    """One by one, every request has exactly the prompt tokens that were projected from text."""
    chosen = Pipeline(context=mode, context_exchanges=k, concurrency=1, rate_limit=None)
    result = ran(items(12), chosen)
    reply_tokens = estimate(result.job.answers["r000000"].text)
    projected = prompt_tokens(chosen, reviews(12), estimate, chat_tokens, reply_tokens)
    assert [row.prompt_tokens for row in result.seen] == projected
    assert [row.prompt_tokens for row in result.rows] == projected


def row(cost_usd: float, *, hit: bool = False) -> Record:
    return Record(
        key="r",
        attempt=1,
        t_intended=0.0,
        t_queued=0.0,
        t_end=1.0,
        outcome="ok",
        cost_usd=cost_usd,
        cache="hit" if hit else "miss",
    )


def test_progress_batch_by_batch() -> None:
    """Every tenth completion reports its batch's seconds and dollars and all hits so far."""
    told: list[Progress] = []
    meter = Meter(25, 10, told.append)
    meter.start(100.0)
    for n in range(1, 26):
        meter.spent(row(0.25, hit=n % 5 == 0))
        meter.done(100.0 + n * n)
    assert told == [
        Progress(batch=1, batches=3, reviews=10, batch_s=100.0, batch_usd=2.5, hits=2),
        Progress(batch=2, batches=3, reviews=20, batch_s=300.0, batch_usd=2.5, hits=4),
        Progress(batch=3, batches=3, reviews=25, batch_s=225.0, batch_usd=1.25, hits=5),
    ]


def test_items_are_dealt_out() -> None:
    """Requests are numbered in input order, dealt to users in turn and cut into batches."""
    dealt = items(7, users=3, batch=2)
    assert [(item.key, item.user, item.batch) for item in dealt] == [
        (f"r{n:06d}", f"u{n % 3}", n // 2) for n in range(7)
    ]
    assert {item.tier for item in dealt} == {1}
