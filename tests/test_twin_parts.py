"""The twin's own parts: its clock, its connections, its counts, its slots."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engines.twin.asked import Texts
from harness.engines.twin.attempts import Slots
from harness.engines.twin.clock import LATE, Clock, Flow, Interrupt
from harness.engines.twin.pool import KEEP_ALIVE_S, Pool
from harness.pipeline.context import Exchange
from harness.scenario.pipeline import Pipeline
from mock_llm.chat import Reader, read_chat
from mock_llm.config import Profile, PromptCache, Upstream
from mock_llm.tokens import counter

WORDS = st.text(st.characters(codec="utf-8"), max_size=80)


@given(
    st.lists(st.tuples(WORDS, WORDS), max_size=3),
    WORDS,
    st.none() | WORDS,
    st.sampled_from([None, 60]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_prompt_is_counted_as_the_mock_counts_its_body(
    pairs: list[tuple[str, str]], text: str, fixed: str | None, most: int | None, stream: bool
) -> None:
    """Bytes, tokens and prefixes of any texts are those of the body that would be sent."""
    chosen = Pipeline(instructions=fixed, max_tokens=most, stream=stream)
    upstream = Upstream(profile=Profile(prompt_cache=PromptCache(min_tokens=0)))
    exchanges = [Exchange(n, *pair) for n, pair in enumerate(pairs)]
    asked = Texts(chosen, counter("estimate")).asked("openai/gpt-4o", exchanges, text)
    body, reader = asked.body(), Reader(upstream)
    read = reader.call(read_chat(body), key="r1", account="sk", new_connection=True)
    told = asked.call(reader, "r1", "sk", new_connection=True)
    assert (asked.size, told) == (len(body), read)


def test_alarms_of_one_instant_ring_in_the_order_in_which_they_were_set() -> None:
    """Time goes first, then the order of setting; the past is now."""
    clock = Clock()
    rung: list[tuple[str, float]] = []

    def ring(name: str) -> None:
        rung.append((name, clock.time()))
        if name == "b":
            clock.call_at(0.5, ring, "past")

    for name, when in (("a", 2.0), ("b", 1.0), ("c", 1.0)):
        clock.call_at(when, ring, name)
    clock.until(clock.process(_waits(clock, 3.0)))
    assert rung == [("b", 1.0), ("c", 1.0), ("past", 1.0), ("a", 2.0)]


def test_what_happens_now_has_its_order() -> None:
    """Work and interruptions first, then what was set before for the moment, now, and last."""
    clock = Clock()
    rung: list[str] = []

    def asleep() -> Flow[None]:
        try:
            yield clock.turn()
        except Interrupt:
            rung.append("interrupted")

    def begins() -> Flow[None]:
        rung.append("begun")
        yield clock.sleep(0.0)
        rung.append("woken")

    def first() -> None:
        clock.last((rung.append, ("last",)))
        clock.soon((rung.append, ("soon",)))
        clock.process(begins())
        clock.call_at(0.0, rung.append, "past")
        clock.call_at(0.0, rung.append, "taken back").cancel()
        sleeper.interrupt()

    sleeper = clock.process(asleep())
    clock.call_at(1.0, first)
    clock.call_at(1.0, rung.append, "set before")
    clock.call_at(1.0, rung.append, "too")
    clock.until()
    first_of_all, then = ["begun", "interrupted"], ["soon", "past", "woken", "last"]
    assert rung == [*first_of_all, "set before", "too", *then]


def test_the_end_of_work_is_an_event_for_those_who_wait() -> None:
    """Who waits for work has what it returns, in its turn; work that fails ends the run."""
    clock = Clock()
    found: list[object] = []

    def works() -> Flow[str]:
        yield clock.sleep(1.0)
        clock.soon((found.append, ("set before",)))
        return "done"

    def asks() -> Flow[None]:
        found.append((yield clock.process(works())))

    def fails() -> Flow[None]:
        yield clock.sleep(2.0)
        raise ValueError("it has failed")

    clock.until(clock.process(asks()))
    assert found == ["set before", "done"]
    with pytest.raises(ValueError, match="it has failed"):
        clock.until(clock.process(fails()))


def _waits(clock: Clock, seconds: float) -> Flow[None]:
    yield clock.sleep(seconds)


def test_what_was_taken_back_moves_no_clock() -> None:
    """A cancelled alarm does not ring, and the time at which nothing is left is not its own."""
    clock = Clock()
    clock.call_at(9.0, _waits).cancel()
    work = clock.process(_asks(clock, lambda: None))
    clock.call_at(1.0, lambda: None)
    clock.until(work)
    assert (work.is_alive, clock.time()) == (True, 1.0)


def _asks(clock: Clock, then: Callable[[], object]) -> Flow[None]:
    yield clock.turn()
    then()


def test_a_wait_ends_late_at_its_limit() -> None:
    """A limit ends whatever is waited for just then, and a wait after it does not begin."""
    clock = Clock()
    found: list[tuple[object, float]] = []

    def work() -> Flow[None]:
        limit = clock.limit(2.0)
        for event in (clock.sleep(1.5), clock.turn(), clock.turn()):
            came = yield from clock.wait(event, limit)
            found.append((came, clock.time()))

    clock.until(clock.process(work()))
    assert found == [(None, 1.5), (LATE, 2.0), (LATE, 2.0)]


def test_idle_connections_serve_again_for_a_while() -> None:
    """The longest idle goes first; too long idle is not used again, broken never."""
    clock = Clock()
    pool = Pool(clock, keep=True, most=None)
    assert [pool.take(0.0), pool.take(0.0), pool.take(0.0)] == [True, True, True]
    pool.give_back(sound=True)
    pool.give_back(sound=False)
    assert pool.take(KEEP_ALIVE_S) is False
    assert pool.take(KEEP_ALIVE_S) is True
    pool.give_back(sound=True)
    assert pool.take(KEEP_ALIVE_S + 0.1) is True


def test_who_waits_for_a_connection_or_a_slot_gets_it_in_order() -> None:
    """First come, first served; who is interrupted or too late leaves its place to the next."""
    clock = Clock()
    slots = Slots(clock, 1)
    got: list[tuple[int, float]] = []

    def work(number: int, limit_s: float | None) -> Flow[None]:
        limit = clock.limit(limit_s)
        try:
            if not slots.take() and not (yield from slots.wait(limit)):
                return
        except Interrupt:
            return
        got.append((number, clock.time()))
        yield clock.sleep(1.0)
        slots.leave()

    runs = [clock.process(work(n, 0.5 if n == 1 else None)) for n in range(5)]
    clock.call_at(0.7, runs[2].interrupt)
    clock.until(runs[4])
    assert got == [(0, 0.0), (3, 1.0), (4, 2.0)]
