"""The exact cache: same normalised text, same router, same model, same answer."""

import hashlib
from collections import OrderedDict

from harness.pipeline.answer import Answer

SCOPE_BYTES = 8  # of a key: what has them in common has router version and model in common


def cache_key(text: str, router_version: str, model: str) -> bytes:
    """Key of an answer; white space does not count, anything else does."""
    normalised = " ".join(text.split())
    scope = hashlib.blake2b(f"{router_version}\0{model}".encode(), digest_size=SCOPE_BYTES)
    return scope.digest() + hashlib.blake2b(normalised.encode(), digest_size=16).digest()


class ExactCache:
    """Least recently used answers, each for `ttl_s`; `now` is handed in."""

    def __init__(self, max_entries: int = 100_000, ttl_s: float = 3600.0) -> None:
        self._entries: OrderedDict[bytes, tuple[float, Answer]] = OrderedDict()
        self._max_entries = max_entries
        self._ttl_s = ttl_s

    def get(self, key: bytes, now: float) -> Answer | None:
        """The answer, if one is held and fresh."""
        found = self._entries.get(key)
        if found is None:
            return None
        if now - found[0] > self._ttl_s:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return found[1]

    def put(self, key: bytes, answer: Answer, now: float) -> None:
        """Hold an answer; the one unused for longest makes room."""
        self._entries[key] = (now, answer)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
