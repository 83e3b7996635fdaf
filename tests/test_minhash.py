"""MinHash: what it estimates, what its bands find, and that it is the same everywhere."""

import math
import os
import subprocess
import sys
from hashlib import blake2b

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.pipeline.cache.minhash import (
    BUCKET,
    CHUNK,
    MinHash,
    MinHashIndex,
    banding,
    recall,
    shingles,
)

signature = MinHash()
words = st.lists(st.sampled_from([f"w{n}" for n in range(40)]), min_size=1, max_size=80)


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one, 3), shingles(other, 3)
    return len(a & b) / len(a | b)


def estimate(one: str, other: str) -> float:
    return float((signature(one) == signature(other)).mean())


@given(one=words, other=words, shared=words)
def test_estimate_is_near_the_truth(one: list[str], other: list[str], shared: list[str]) -> None:
    """The share of equal places is the Jaccard similarity within five standard errors and a bit."""
    a, b = " ".join([*shared, *one]), " ".join([*shared, *other])
    truth = jaccard(a, b)
    assert estimate(a, b) == pytest.approx(
        truth, abs=5 * math.sqrt(truth * (1 - truth) / 128) + 0.02
    )


def text_of(numbers: range) -> str:
    return " ".join(f"word{n}" for n in numbers)


def test_estimate_has_no_bias_and_the_error_told() -> None:
    """Over many pairs the mean is the truth, and the spread is that of a binomial share."""
    truth = jaccard(text_of(range(90)), text_of(range(10, 100)))
    found = [
        estimate(text_of(range(n, n + 90)), text_of(range(n + 10, n + 100)))
        for n in range(0, 60_000, 200)
    ]
    mean = sum(found) / len(found)
    sd = math.sqrt(sum((one - mean) ** 2 for one in found) / len(found))
    told = math.sqrt(truth * (1 - truth) / 128)
    assert mean == pytest.approx(truth, abs=4 * told / math.sqrt(len(found)))
    assert sd == pytest.approx(told, rel=0.2)


@given(text=st.text(min_size=1, max_size=300))
def test_identical_text_is_always_found(text: str) -> None:
    """Any text is like itself, be it a word, a smiley or nothing but space."""
    index = MinHashIndex()
    index.add(b"k", text)
    assert index.query(text) == (b"k", 1.0)
    assert index.query(f"  {text.upper()} ") == (b"k", 1.0) or text.upper().casefold() != text


def test_case_and_punctuation_do_not_count() -> None:
    """What differs in them alone is one text, however short."""
    index = MinHashIndex()
    index.add(b"k", "Great product!")
    assert index.query("great PRODUCT") == (b"k", 1.0)
    assert index.query("great products") is None


@pytest.mark.parametrize(("threshold", "kept"), [(0.5, 132), (0.8, 156), (0.9, 171)])
def test_bands_find_what_is_near(threshold: float, kept: int) -> None:
    """Of pairs at or over the threshold by estimate at least the share told is found."""
    bands, rows = banding(threshold, 128)
    near = found = 0
    for n in range(0, 400_000, 1000):
        one, other = text_of(range(n, n + kept)), text_of(range(n, n + 180))
        index = MinHashIndex(threshold)
        index.add(b"k", one)
        if estimate(one, other) >= threshold:
            near += 1
            found += index.query(other) is not None
        else:
            assert index.query(other) is None
    assert near >= 100
    assert found / near >= recall(threshold, bands, rows) - 0.01


@given(threshold=st.floats(0.05, 1.0), hashes=st.integers(16, 256))
def test_banding_keeps_its_promise(threshold: float, hashes: int) -> None:
    """Bands fit into the signature and find 99 % at the threshold, where any banding could."""
    bands, rows = banding(threshold, hashes)
    assert bands * rows <= hashes
    assert recall(threshold, bands, rows) >= 0.99 or (bands, rows) == (hashes, 1)


def test_a_band_more_selective_would_miss_more() -> None:
    """At the usual settings it is 21 bands of 6, which find 99.8 %, and 18 of 7 do not do."""
    assert banding(0.8, 128) == (21, 6)
    assert recall(0.8, 21, 6) == pytest.approx(0.9983, abs=1e-4)
    assert recall(0.8, 18, 7) < 0.99


TEXTS = st.lists(st.sampled_from([text_of(range(n, n + 30)) for n in range(12)]), unique=True)


@given(added=TEXTS, removed=TEXTS)
def test_what_is_removed_is_not_found(added: list[str], removed: list[str]) -> None:
    """An index is as if what was removed had never been added, down to its buckets."""
    assume(added)
    index, other = MinHashIndex(), MinHashIndex()
    for text in added:
        index.add(text.encode(), text)
    for text in set(removed) & set(added):
        index.remove(text.encode())
    for text in added:
        if text not in removed:
            other.add(text.encode(), text)
    assert index._buckets == other._buckets
    assert [index.query(text) for text in added] == [other.query(text) for text in added]


def test_buckets_are_bounded() -> None:
    """However many texts have a band in common, a query looks at a bounded number of them."""
    index = MinHashIndex()
    for n in range(3 * BUCKET):
        index.add(bytes([n]), "one and the same text")
    assert {len(bucket) for bucket in index._buckets.values()} == {BUCKET}
    assert index.query("one and the same text") is not None
    for n in range(3 * BUCKET):
        index.remove(bytes([n]))
    assert (len(index), index._buckets) == (0, {})


def test_long_texts_are_taken_in_parts() -> None:
    """Parts change nothing: a set's smallest image is the smallest of its parts' smallest."""
    long = text_of(range(2 * CHUNK + 5))
    whole = signature(long)
    parts = [signature(text_of(range(n, n + 3))) for n in range(2 * CHUNK + 3)]
    assert (whole == [min(one) for one in zip(*parts, strict=True)]).all()


def test_signatures_are_the_same_in_every_process() -> None:
    """They depend neither on Python's hash seed nor on the machine."""
    code = (
        "from hashlib import blake2b; from harness.pipeline.cache.minhash import MinHash;"
        "print(blake2b(MinHash()('a text of five words').astype('<u4').tobytes()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    here = signature("a text of five words").astype("<u4").tobytes()
    assert seen == {blake2b(here).hexdigest()}
