"""What the model says: a review classifier whose errors are real, or words of the right length.

The classifier is right with a probability that falls with the review's complexity and rises with
the model's skill, so that a router which sends hard reviews to better models measurably gains.
"""

import re
from functools import lru_cache
from math import exp
from typing import Literal, NamedTuple

from mock_llm.tokens import CHARS_PER_TOKEN, Counter, estimate

Label = Literal["positive", "negative"]

TEXT_TOKENS = 60
"""Length of a `text` reply for which no length was drawn."""

READ_CHARS = 4000
_TURNS = (
    "although but despite except however if instead maybe nevertheless otherwise perhaps rather "
    "somewhat though unless unfortunately whereas while would yet"
)
_PRAISE = (
    "amazing awesome beautiful best comfortable easy enjoy enjoyed excellent fantastic favorite "
    "fun glad good great happy highly love loved loves nice perfect perfectly pleased recommend "
    "recommended solid sturdy superb thanks well wonderful worth"
)
_BLAME = (
    "annoying awful bad boring broke broken cheap cheaply defective didn disappointed "
    "disappointing disappointment don fail failed hate horrible junk money never nothing poor "
    "poorly refund return returned returning sorry stopped terrible unfortunately useless waste "
    "wasted worse worst wrong"
)
_HEDGES = frozenset(word + mark for word in _TURNS.split() for mark in ("", ",", ".", ";", ":"))
_POSITIVE, _NEGATIVE = frozenset(_PRAISE.split()), frozenset(_BLAME.split())
_WORD = re.compile(r"[a-z]+")
_SENTENCE = (
    "the review says what it liked and what it did not and on balance the words that weigh most "
    "point one way while the rest adds detail about price delivery quality and daily use so "
)


class Reply(NamedTuple):
    """A reply as it will be sent."""

    text: str
    tokens: int
    finish_reason: Literal["stop", "length", "tool_calls"]


def complexity(text: str) -> float:
    """Return how hard a review is to judge, in [0, 1): by length, hedges and contrasts, digits.

    Only the first 4,000 characters are read. A review of 100 words has about 0.5.
    """
    lowered = text[:READ_CHARS].lower()
    words = lowered.split()
    hedges = sum(map(_HEDGES.__contains__, words))
    raw = lowered.encode("utf-8", "surrogatepass")
    digits = len(raw) - len(raw.translate(None, b"0123456789"))
    return 1.0 - exp(-(len(words) / 250 + hedges / 10 + digits / 50))


def guess(text: str) -> Label:
    """Return the label by a small lexicon, for a review whose true label is unknown.

    It agrees with the label of 76 % of 4,933 labelled product reviews.
    """
    words = _WORD.findall(text[:READ_CHARS].lower())
    praise = sum(map(_POSITIVE.__contains__, words))
    blame = sum(map(_NEGATIVE.__contains__, words))
    return "positive" if praise >= blame else "negative"


def right_probability(complexity: float, skill: float) -> float:
    """Return the chance of a right label, in [0.5, 1] (a coin is right half the time).

    An easy review is labelled rightly with probability `skill`; of the edge over a coin, a hard one
    costs 2 (1 - skill) of itself, so the better model also loses less. Two is the steepest slope at
    which more skill never hurts.
    """
    skill = max(skill, 0.5)
    return 0.5 + (skill - 0.5) * (1.0 - 2.0 * complexity * (1.0 - skill))


class Verdict(NamedTuple):
    """What the classifier says of a review: JSON, ``{"label":"positive","confidence":0.93}``.

    Attributes:
        right: the probability of being right, which is also the confidence: a calibrated judge.
        good: the answer with the right label.
        bad: the answer with the wrong one.
    """

    right: float
    good: str
    bad: str


@lru_cache(maxsize=1024)
def verdict(text: str, truth: str | None, skill: float) -> Verdict:
    """Judge a review; the rest is luck.

    Args:
        text: the review; not more of it than `READ_CHARS`, for it is remembered.
        truth: its true label; when unknown, `guess` stands for it.
        skill: see `mock_llm.config.Model`.
    """
    right = right_probability(complexity(text), skill)
    label = truth or guess(text)
    other = "negative" if label == "positive" else "positive"
    good, bad = (f'{{"label":"{word}","confidence":{right:.2f}}}' for word in (label, other))
    return Verdict(right, good, bad)


@lru_cache(maxsize=256)
def padded(answer: str, tokens: int) -> str:
    """Return the classifier's JSON with a `reason` that makes it `tokens` long, by the estimate.

    An answer that is already as long is left alone; one that leaves no room for a reason gets
    blanks, which JSON allows.
    """
    if estimate(answer) >= tokens:
        return answer
    size = round(tokens * CHARS_PER_TOKEN)
    room = size - len(answer) - len(',"reason":""')
    if room < 1:
        return answer.ljust(size)
    return f'{answer[:-1]},"reason":"{_chars(room)}"}}'


def words(tokens: int) -> str:
    """Return plain words, `tokens` long by the estimate."""
    return _chars(round(tokens * CHARS_PER_TOKEN))


@lru_cache(maxsize=256)
def limited(text: str, max_tokens: int | None, count: Counter) -> Reply:
    """Return the reply, cut where `max_tokens` is reached."""
    tokens = count(text)
    if max_tokens is None or tokens <= max_tokens:
        return Reply(text, tokens, "stop")
    return Reply(text[: len(text) * max_tokens // tokens], max_tokens, "length")


def _chars(size: int) -> str:
    return (_SENTENCE * (size // len(_SENTENCE) + 1))[:size]
