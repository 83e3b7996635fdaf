"""Shapes of users over time: tables, what always holds, and what is wrong on a command line."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError
from harness.scenario.arrivals import Arrivals, StepArrivals
from loadtests.levels import Search, pace, parse_shape, parse_table


@pytest.mark.parametrize(
    ("text", "length_s", "levels"),
    [
        ("ramp:from=10,to=110,over=100,for=50", 150, {0: 10, 50: 60, 100: 110, 149: 110}),
        ("ramp:to=4,over=8", 8, {0: 0, 1: 0, 2: 1, 7.9: 4}),
        ("ramp:from=10,to=2,over=8", 8, {0: 10, 4: 6}),
        ("step:by=10,every=5,to=25", 15, {0: 10, 4.9: 10, 5: 20, 10: 25, 14: 25}),
        ("step:from=3,by=1,every=1,to=3", 1, {0: 3}),
        ("spike:base=20,factor=10,at=20,for=20", 100, {0: 20, 19.9: 20, 20: 200, 39: 200, 40: 20}),
        ("spike:base=20,factor=.5,at=2,for=2,after=1", 5, {0: 20, 2: 10, 4: 20}),
        ("soak:users=50,for=3600,ramp=10", 3610, {0: 0, 5: 25, 10: 50, 3609: 50}),
        ("soak:users=50,for=60", 60, {0: 50, 59: 50}),
        ("sawtooth:low=10,high=110,period=10,for=25", 25, {0: 10, 5: 60, 9.9: 109, 10: 10, 15: 60}),
    ],
)
def test_levels(text: str, length_s: float, levels: dict[float, int]) -> None:
    """Each shape at its corners and in between."""
    shape = parse_shape(text)
    assert shape.length_s == length_s
    assert {t: shape.users(t) for t in levels} == levels


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Twenty arrivals in the first ten seconds, none in the next, five in the last."""
    path = tmp_path / "trace.csv"
    times = [n / 2 for n in range(20)] + [20 + n for n in range(5)]
    path.write_text("t_s\n" + "".join(f"{t}\n" for t in times))
    return path


def test_users_follow_a_trace(trace: Path) -> None:
    """A rate of 2/s needs 50 users who ask every 25 s; half a one is one."""
    shape = parse_shape(f"trace:file={trace.name},every=25", trace.parent)
    assert [shape.users(t) for t in (0, 9.9, 10, 19, 20, 29)] == [50, 50, 0, 0, 13, 13]
    assert (shape.length_s, shape.most) == (30, 50)
    doubled = parse_shape(f"trace:file={trace},every=25,scale=2")
    assert doubled.most == 100


numbers = st.integers(1, 500)
seconds = st.integers(1, 100)
shapes = st.one_of(
    st.builds("ramp:from={},to={},over={},for={}".format, numbers, numbers, seconds, seconds),
    st.builds("step:by={},every={},to={},from={}".format, numbers, seconds, numbers, numbers),
    st.builds("spike:base={},factor={},at={},for={}".format, numbers, numbers, seconds, seconds),
    st.builds("soak:users={},ramp={},for={}".format, numbers, seconds, seconds),
    st.builds(
        "sawtooth:low={0[0]},high={0[1]},period=7,for={1}".format,
        st.tuples(numbers, numbers).map(sorted),
        st.integers(7, 99),
    ),
)


@given(shapes, st.floats(0, 1, exclude_max=True))
def test_levels_stay_within_what_is_promised(text: str, share: float) -> None:
    """At any time there are between none and `most` users, and at some time nearly so many."""
    shape = parse_shape(text)
    assert 0 <= shape.users(share * shape.length_s) <= shape.most
    steps = [n / 1000 * shape.length_s for n in range(1000)]
    assert max(map(shape.users, steps)) >= 0.9 * shape.most - 1


def test_only_a_spike_has_one() -> None:
    """When it begins and ends is told by nothing else."""
    assert parse_shape("spike:base=1,factor=2,at=3,for=4").spike_s == (3, 7)
    assert parse_shape("soak:users=1,for=2").spike_s is None


def test_a_search_ends_by_itself() -> None:
    """It has no length, and tries no more users than it may."""
    shape = parse_shape("search:start=4,up_to=64")
    assert isinstance(shape, Search)
    assert (shape.length_s, shape.most, shape.start) == (math.inf, 64, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("spik:base=1", "kind: unknown kind 'spik'; did you mean 'spike'?"),
        ("spike:base=20", "factor: missing: expected a number"),
        ("ramp:to=5,over=x", "over: expected a number, got the text 'x'"),
        ("ramp:to=5,over=5,frm=4", "frm: unknown key; did you mean 'from'?"),
        ("soak:users=0,for=3", "users: must be >= 1, got 0"),
        ("soak:users=2.5,for=3", "users: expected a whole number, got the number 2.5"),
        ("soak:users", "'users' is no key=value"),
        ("sawtooth:low=9,high=3,period=5,for=9", "high: high is 3, less than low, 9"),
        ("search:start=5,up_to=3", "up_to: up_to is 3, less than start, 5"),
    ],
)
def test_mistakes_are_told_in_one_line(text: str, said: str) -> None:
    """Where it is, and what would be right."""
    with pytest.raises(InputError) as caught:
        parse_shape(text)
    assert str(caught.value) == f"--shape {text}: {said}"


def test_a_trace_that_is_not_there_is_told() -> None:
    """By its name."""
    with pytest.raises(InputError, match=r"trace nowhere\.csv: no such file"):
        parse_shape("trace:file=nowhere.csv,every=25")


def test_tables_may_have_lists() -> None:
    """A comma within brackets parts nothing."""
    found: Arrivals = parse_table("--open-loop", "step:rates_per_s=[4, 12],at_s=[60]", Arrivals)
    assert found == StepArrivals(rates_per_s=(4.0, 12.0), at_s=(60.0,))


@pytest.mark.parametrize(
    ("users", "then", "per_s"), [(0, 5000, 100), (30, 3, 100), (4000, 0, 4000), (1000, 100, 900)]
)
def test_all_who_leave_do_so_together(users: int, then: int, per_s: float) -> None:
    """A hundred come a second; those who leave do within one, however many they are."""
    assert pace(users, then) == per_s
