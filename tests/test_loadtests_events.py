"""What users' answers say: header fields, streams and statuses; and which numbers users have."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engines.asking import hint_s, item_keys
from loadtests.events import Stream
from loadtests.numbers import Numbers
from loadtests.sight import outcome_of

TOKEN = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"cost":0.25}}\n\n'
DONE = b"data: [DONE]\n\n"


def read(*events: bytes) -> Stream:
    """A stream asked for at 1 s, an event every second from 2 s on."""
    stream = Stream(1.0)
    for now, event in enumerate(events, 2):
        stream.add(event, float(now))
    return stream


def test_a_stream_tells_when_its_tokens_came() -> None:
    """Keep-alives and empty chunks are no tokens; the time between them is a mean over gaps."""
    empty = b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
    stream = read(b": OPENROUTER PROCESSING\n\n", empty, TOKEN, TOKEN, TOKEN, USAGE, DONE)
    assert (stream.done, stream.error, stream.cost_usd) == (True, "", 0.25)
    assert stream.times_s == {"ttft": 3.0, "itl": 1.0}


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ((TOKEN,), ""),
        ((TOKEN, b'data: {"error":{"message":"overloaded"}}\n\n', DONE), "overloaded"),
        ((TOKEN, b'data: {"choices":\n\n', DONE), "a chunk is no JSON"),
    ],
    ids=["cut", "error", "torn"],
)
def test_a_stream_that_breaks_is_not_done(events: tuple[bytes, ...], error: str) -> None:
    """A stream without its end, with an error or with half a chunk in it is none that was read."""
    stream = read(*events)
    assert not stream.done
    assert stream.error.startswith(error)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((200, "ok"), (504, "timed_out"), (408, "timed_out"), (502, "failed"), (500, "failed")),
        *((0, "failed"), (429, "rejected"), (503, "rejected"), (402, "rejected")),
    ],
)
def test_statuses_mean_what_the_service_says(status: int, expected: str) -> None:
    """Each status of the service is one outcome, and no answer at all is a failure."""
    assert outcome_of(status) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"error":{"type":"rate_limited","retry_after_s":1.5}}', 1.5),
        *((data, 0.0) for data in (b"", b"[]", b'{"error":7}', b'{"error":{}}', b"\xff")),
    ],
)
def test_hints_are_read_whatever_comes(data: bytes, expected: float) -> None:
    """A refusal's hint is read, and what is none is no hint."""
    assert hint_s(data) == expected


def test_items_are_called_as_the_service_calls_them() -> None:
    """Keys of a batch's items are its id and their numbers."""
    assert item_keys("b000002", 2) == ["b000002.000000", "b000002.000001"]


@given(st.integers(1, 5), st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_nobody_has_anothers_number(step: int, moves: list[tuple[bool, int]]) -> None:
    """Whoever comes and goes, a number is one user's at a time, and goes on where it was left."""
    numbers, held, left = Numbers(3 % step, step), dict[int, int](), dict[int, int]()
    for comes, which in moves:
        if comes or not held:
            number, asked = numbers.take()
            assert number not in held
            assert number % step == 3 % step
            assert asked == left.get(number, 0)
            held[number] = asked
        else:
            gone: Any = sorted(held)[which % len(held)]
            left[gone] = held.pop(gone) + which
            numbers.give_back(gone, left[gone])
    assert max(held, default=0) < (len(moves) + 1) * step + step
