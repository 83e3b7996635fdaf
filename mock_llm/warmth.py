"""What a provider remembers of earlier calls: that a model is warm, and prompts it has seen."""

from collections import OrderedDict
from collections.abc import Sequence
from math import exp

from mock_llm.config import ColdStart, PromptCache

Prefix = Sequence[tuple[bytes, int]]


class ColdStartState:
    """How cold a model is; see `mock_llm.config.ColdStart`."""

    def __init__(self, config: ColdStart) -> None:
        self._decay_s = config.decay_s
        self._idle_s = config.idle_s
        self._first: float | None = None
        self._latest = 0.0

    def share(self, now: float) -> float:
        """Return the share of the extra time that a call now pays (1 cold, 0 warm), and warm up."""
        if self._first is None or now - self._latest >= self._idle_s:
            self._first = self._latest = now
            return 1.0
        self._latest = now
        return exp((self._first - now) / self._decay_s) if self._decay_s > 0 else 0.0


class PrefixCache:
    """The prompt prefixes that a model remembers; see `mock_llm.config.PromptCache`.

    Attributes:
        limit: prefixes remembered; the least recently used are forgotten first.
    """

    def __init__(self, config: PromptCache, limit: int = 100_000) -> None:
        self.limit = limit
        self._min_tokens = config.min_tokens
        self._ttl_s = config.ttl_s
        self._last_used: OrderedDict[bytes, float] = OrderedDict()

    def cached_tokens(self, prefix: Prefix, now: float) -> int:
        """Return the tokens of the longest prefix remembered; `prefix` has the shortest first."""
        for digest, tokens in reversed(prefix):
            if tokens < self._min_tokens:
                break
            last_used = self._last_used.get(digest)
            if last_used is not None and now - last_used < self._ttl_s:
                return tokens
        return 0

    def remember(self, prefix: Prefix, now: float) -> None:
        """Remember every prefix that is long enough as used now."""
        for digest, tokens in prefix:
            if tokens >= self._min_tokens:
                self._last_used[digest] = now
                self._last_used.move_to_end(digest)
        while len(self._last_used) > self.limit:
            self._last_used.popitem(last=False)
