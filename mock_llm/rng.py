"""Keyed weather: a uniform is a hash of what it is for, never the next one of a sequence.

Theory of operation. A draw is named by (seed, stream, key, draw number) and costs one blake2b hash,
so it does not matter who else draws, how often, or in what order: two variants of a scenario meet
the same weather request by request, and comparing them is paired.
"""

from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import Protocol

_STEP = 2.0**-52


class _Hash(Protocol):
    """The part of a hashlib object that a draw needs."""

    def copy(self) -> "_Hash": ...
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class Keyed:
    """All the random numbers of one seed.

    Attributes:
        seed: any integer; equal seeds give equal numbers on every machine and in every process.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def uniform(self, stream: str, key: str, draw: int = 0) -> float:
        """Return the uniform of one draw, in the open interval (0, 1)."""
        return _uniform(self._prefix(stream), key, draw)

    def stream(self, name: str) -> Callable[[str, int], float]:
        """Return `uniform` bound to a stream: (key, draw) to a float, the name hashed only once."""
        return partial(_uniform, self._prefix(name))

    def _prefix(self, stream: str) -> Callable[[], _Hash]:
        # The length before the name keeps ("a", "bc") and ("ab", "c") apart.
        head = f"{self.seed}:{len(stream)}:{stream}:"
        return blake2b(head.encode("utf-8", "surrogatepass"), digest_size=8).copy


def _uniform(prefix: Callable[[], _Hash], key: str, draw: int) -> float:
    state, name = prefix(), f"{draw}:{key}"
    try:
        state.update(name.encode())
    except UnicodeEncodeError:  # a header value may carry lone surrogates
        state.update(name.encode("utf-8", "surrogatepass"))  # keeps different keys different
    # 52 bits and a half: the ends 0 and 1, where quantile functions are infinite, cannot occur.
    return ((int.from_bytes(state.digest()) >> 12) + 0.5) * _STEP


def request_key(text: str) -> str:
    """Return a request's identity made of its text: 16 hex digits, equal for equal texts."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


HEDGE = "~hedge"
"""What a client adds to the key of a request that it sends a second time while the first attempt is
still under way: so that one has weather of its own, takes no draw of a retry's, and is answered
alike, for what is keyed by the request alone leaves it out."""
