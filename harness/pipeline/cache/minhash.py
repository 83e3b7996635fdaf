"""Near-duplicates by MinHash: texts are alike as far as their sets of shingles overlap.

Broder, "On the resemblance and containment of documents" (1997): under a random permutation two
sets have the same smallest element with the probability of their Jaccard similarity. A signature
is the smallest elements under `hashes` permutations; the share of equal places estimates it. Bands
of a signature are hashed (Leskovec et al., "Mining of Massive Datasets", 3.4), so that a query
looks only at texts with one band in common.
"""

import hashlib
import re
from functools import lru_cache
from itertools import count
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from harness.pipeline.cache.near import Match

Signature = NDArray[np.uint32]

RECALL = 0.99  # of pairs just at the threshold, which a banding must find
BUCKET = 64  # texts with one band in common: more would make a query slow; the oldest leave
CHUNK = 4096  # shingles at a time: the longest text takes no more memory than that
_WORD = re.compile(r"\w+")


def shingles(text: str, size: int) -> set[str]:
    """Runs of `size` words, case and punctuation apart; a shorter text is a single one."""
    words = _WORD.findall(text.casefold()) or text.split()
    return {" ".join(words[n : n + size]) for n in range(max(1, len(words) - size + 1))}


def recall(similarity: float, bands: int, rows: int) -> float:
    """Probability that two texts so alike have a band in common: 1 - (1 - s^r)^b."""
    return 1.0 - (1.0 - similarity**rows) ** bands


def banding(threshold: float, hashes: int) -> tuple[int, int]:
    """Bands, and rows in each: the most selective that finds `RECALL` of pairs at the threshold.

    Below about 0.3, with few hashes, none does; then it is bands of a single row.
    """
    for rows in range(hashes, 0, -1):
        if recall(threshold, hashes // rows, rows) >= RECALL:
            return hashes // rows, rows
    return hashes, 1


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


class MinHash:
    """Signatures of texts: the same in every process, whatever its hash seed."""

    def __init__(self, shingle: int = 3, hashes: int = 128) -> None:
        self._shingle = shingle
        # (a x + b) >> 32 in 64 bits is strongly universal for x of 32 bits (Dietzfelbinger, 1996).
        numbers = [[_number(f"minhash {part} {n}")] for part in "ab" for n in range(hashes)]
        self._a, self._b = np.array(numbers, np.uint64).reshape(2, hashes, 1)

    def __call__(self, text: str) -> Signature:
        """A text's signature, of shape (hashes,)."""
        found = [crc32(one.encode()) for one in shingles(text, self._shingle)]
        smallest = np.full(len(self._a), np.iinfo(np.uint32).max, np.uint64)
        for start in range(0, len(found), CHUNK):
            images = self._a * np.array(found[start : start + CHUNK], np.uint64) + self._b
            smallest = np.minimum(smallest, images.min(axis=1) >> np.uint64(32))
        return smallest.astype(np.uint32)


class MinHashIndex:
    """Signatures in buckets by band; about 0.5 kB + 0.1 kB a band for each text.

    Args:
        threshold: estimated similarity from which texts are near.
        shingle: words in a shingle.
        hashes: permutations; the estimate's standard error is sqrt(s (1 - s) / hashes).
    """

    def __init__(self, threshold: float = 0.8, shingle: int = 3, hashes: int = 128) -> None:
        self._threshold = threshold
        # What is looked up in vain is added when its answer comes.
        self._signature = lru_cache(64)(MinHash(shingle, hashes))
        self._bands, self._rows = banding(threshold, hashes)
        self._held: dict[bytes, Signature] = {}
        self._buckets: dict[tuple[int, bytes], dict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def _bands_of(self, signature: Signature) -> list[tuple[int, bytes]]:
        used = signature[: self._bands * self._rows].reshape(self._bands, self._rows)
        return [(n, band.tobytes()) for n, band in zip(count(), used, strict=False)]

    def add(self, key: bytes, text: str) -> None:
        """See `NearIndex.add`."""
        signature = self._held[key] = self._signature(text)
        for band in self._bands_of(signature):
            bucket = self._buckets.setdefault(band, {})
            bucket[key] = None
            if len(bucket) > BUCKET:
                del bucket[next(iter(bucket))]

    def query(self, text: str) -> Match | None:
        """See `NearIndex.query`."""
        signature = self._signature(text)
        seen: dict[bytes, None] = {}
        for band in self._bands_of(signature):
            seen.update(self._buckets.get(band, {}))
        if not seen:
            return None
        keys = list(seen)
        alike = (np.array([self._held[key] for key in keys]) == signature).mean(axis=1)
        best = int(alike.argmax())
        if alike[best] < self._threshold:
            return None
        return Match(keys[best], float(alike[best]))

    def remove(self, key: bytes) -> None:
        """See `NearIndex.remove`."""
        for band in self._bands_of(self._held.pop(key)):
            bucket = self._buckets.get(band, {})
            bucket.pop(key, None)
            if not bucket:
                self._buckets.pop(band, None)
