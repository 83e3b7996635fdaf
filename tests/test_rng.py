"""Keyed weather: equal names draw equal numbers everywhere, others independent ones."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mock_llm.counts import Counts
from mock_llm.rng import Keyed, request_key

ROOT = Path(__file__).parents[1]
ANY_TEXT = st.text(st.characters(), max_size=20)
NAMES = st.tuples(ANY_TEXT, ANY_TEXT, st.integers(-1, 5))


def _in_new_process(hash_seed: str, code: str) -> str:
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_draw_never_changes_between_versions() -> None:
    """The first draws of seed 1 are pinned, so that published results can be repeated."""
    keyed = Keyed(1)
    actual = [keyed.uniform("ttft", "r1"), keyed.uniform("ttft", "r1", 1)]
    assert actual == [0.4081730601405301, 0.7447739314164162]


def test_draws_do_not_depend_on_the_process() -> None:
    """Processes with different string hashing draw the same numbers."""
    code = "from mock_llm.rng import *; print(Keyed(7).uniform('s', 'é', 3), request_key('é'))"
    expected = f"{Keyed(7).uniform('s', 'é', 3)} {request_key('é')}\n"
    assert [_in_new_process(seed, code) for seed in ("0", "1")] == [expected, expected]


@given(seed=st.integers(), name=NAMES)
def test_a_uniform_lies_strictly_between_0_and_1(seed: int, name: tuple[str, str, int]) -> None:
    """No text, lone surrogates included, makes a draw fail or touch an end of the interval."""
    assert 0.0 < Keyed(seed).uniform(*name) < 1.0


@given(name=NAMES, other=NAMES)
def test_different_names_draw_different_numbers(
    name: tuple[str, str, int], other: tuple[str, str, int]
) -> None:
    """A draw is shared exactly when stream, key and draw number are all the same."""
    keyed = Keyed(3)
    assert (keyed.uniform(*name) == keyed.uniform(*other)) == (name == other)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("a", "bc", 0), ("ab", "c", 0)),
        (("a", "1:x", 0), ("a", "x", 1)),
        (("a", "0:x", 1), ("a:1", "x", 0)),
        (("", "k", 11), ("1", "k", 1)),
        (("a", "\udc80", 0), ("a", "\udc81", 0)),
    ],
)
def test_the_encoding_is_unambiguous(one: tuple[str, str, int], two: tuple[str, str, int]) -> None:
    """Characters cannot wander from one part of a name into another."""
    keyed = Keyed(0)
    assert keyed.uniform(*one) != keyed.uniform(*two)


def test_seeds_match_and_differ() -> None:
    """Equal seeds repeat each other, and every other seed (0 and negative ones too) differs."""
    draws = [Keyed(seed).uniform("s", "k") for seed in (5, 5, 0, -5, 55, 2**70)]
    assert (draws[0] == draws[1], len(set(draws))) == (True, 5)


@given(name=NAMES)
def test_a_bound_stream_draws_the_same_numbers(name: tuple[str, str, int]) -> None:
    """`stream` is a quicker `uniform` and nothing else."""
    stream, key, draw = name
    assert Keyed(2).stream(stream)(key, draw) == Keyed(2).uniform(stream, key, draw)


def test_a_new_consumer_shifts_nobody() -> None:
    """What other streams draw in between never changes a stream's numbers."""
    alone, shared = Keyed(4), Keyed(4)
    expected = [alone.uniform("ttft", str(i)) for i in range(50)]
    actual = []
    for i in range(50):
        shared.uniform("new", str(i))
        actual.append(shared.uniform("ttft", str(i)))
    assert actual == expected


def test_draws_are_uniform_and_streams_independent() -> None:
    """20,000 draws pass a Kolmogorov-Smirnov test, and two streams do not correlate."""
    keyed = Keyed(1)
    one = np.array([keyed.uniform("one", str(i)) for i in range(20_000)])
    two = np.array([keyed.uniform("two", str(i)) for i in range(20_000)])
    assert stats.kstest(one, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.02


def test_a_request_key_is_short_and_its_texts_own() -> None:
    """Equal texts have equal keys of 16 hex digits, others have others."""
    keys = [request_key(text) for text in ("good", "good", "bad", "\udc80")]
    assert (keys[0] == keys[1], len(set(keys)), {len(key) for key in keys}) == (True, 3, {16})


def test_counts_count_each_key() -> None:
    """A key's count is of its own earlier calls."""
    counts = Counts()
    assert [counts.next(key) for key in "abaab"] == [0, 0, 1, 2, 1]


def test_counts_forget_the_key_longest_unused() -> None:
    """Beyond the limit the least recently counted key starts again."""
    counts = Counts(limit=2)
    assert [counts.next(key) for key in "abacab"] == [0, 0, 1, 0, 2, 0]
