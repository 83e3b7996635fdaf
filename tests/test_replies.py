"""Replies: a classifier that errs where reviews are hard and models weak, at any wanted length."""

import json
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_llm.replies import complexity, guess, limited, padded, right_probability, verdict, words
from mock_llm.tokens import estimate

EASY = "Great toy, love it."
HARD = (
    "It works, but the battery, although rated 3000 mAh, lasted 2 days; however, if you charge it "
    "with the 20 W plug instead, it is somewhat better, though I would rather return it. "
) * 4
SKILLS = st.floats(0.5, 1)
COMPLEXITIES = st.floats(0, 1)
ANSWER = '{"label":"positive","confidence":0.93}'


def test_hard_reviews_are_more_complex_than_easy_ones() -> None:
    """Length, hedges and digits all count."""
    assert complexity("") < complexity(EASY) < complexity(HARD)
    assert complexity("it works very well") < complexity("it works, but meh")
    assert complexity("it works in ten") < complexity("it works in 10")


def test_complexity_has_its_closed_form() -> None:
    """Words, hedges and digit characters wear down what is easy, exponentially."""
    text = "It costs 20 dollars, but works."
    assert complexity(text) == pytest.approx(1 - exp(-(6 / 250 + 1 / 10 + 2 / 50)))


@given(st.text())
def test_complexity_is_a_share(text: str) -> None:
    """Every text has a complexity between 0 and 1."""
    assert 0.0 <= complexity(text) <= 1.0


def test_complexity_reads_a_bounded_part() -> None:
    """Very long texts cost no more than long ones."""
    assert complexity("word " * 800) == complexity("word " * 8000)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("I love it, works great", "positive"),
        ("Broke after a day. What a waste of money!", "negative"),
        ("Excellent, not a waste", "positive"),
        ("", "positive"),
    ],
)
def test_an_unknown_truth_is_guessed_from_the_words(text: str, label: str) -> None:
    """Praise and blame are counted; a tie counts as praise."""
    assert guess(text) == label


@given(one=COMPLEXITIES, other=COMPLEXITIES, skill=SKILLS)
def test_accuracy_falls_with_complexity(one: float, other: float, skill: float) -> None:
    """A harder review is never labelled rightly more often."""
    easy, hard = sorted((one, other))
    assert right_probability(easy, skill) >= right_probability(hard, skill)


@given(hardness=COMPLEXITIES, one=SKILLS, other=SKILLS)
def test_accuracy_rises_with_skill(hardness: float, one: float, other: float) -> None:
    """A better model is never labelled rightly less often."""
    weak, strong = sorted((one, other))
    assert right_probability(hardness, weak) <= right_probability(hardness, strong) + 1e-15


def test_the_trend_is_strict_between_real_models() -> None:
    """A hard review costs accuracy, less of it at the better model, and skill is that of ease."""
    mini = [right_probability(c, 0.93) for c in (0.0, 0.9)]
    sonnet = [right_probability(c, 0.985) for c in (0.0, 0.9)]
    assert (mini[0], sonnet[0]) == pytest.approx((0.93, 0.985))
    assert mini[0] - mini[1] > 3 * (sonnet[0] - sonnet[1]) > 0.01


@given(hardness=COMPLEXITIES, skill=st.floats(0, 1))
def test_nobody_is_worse_than_a_coin(hardness: float, skill: float) -> None:
    """The probability of a right label stays in [0.5, 1]."""
    assert 0.5 <= right_probability(hardness, skill) <= 1.0


@given(skill=SKILLS, truth=st.sampled_from(["positive", "negative"]))
def test_a_verdict_has_an_answer_for_either_luck(skill: float, truth: str) -> None:
    """One answer has the right label and one the wrong one; the confidence is the probability."""
    right, *answers = verdict(HARD, truth, skill)
    assert right == right_probability(complexity(HARD), skill)
    said = [json.loads(answer) for answer in answers]
    assert [one["label"] == truth for one in said] == [True, False]
    assert [one["confidence"] for one in said] == [round(right, 2)] * 2


def test_a_reply_is_compact_json() -> None:
    """No blanks, two keys, two decimals."""
    assert verdict("", "negative", 0.93).good == '{"label":"negative","confidence":0.93}'


def test_without_a_truth_the_guess_stands_for_it() -> None:
    """A sure model says what the lexicon says."""
    assert json.loads(verdict("Terrible junk", None, 1.0).good)["label"] == "negative"


@given(tokens=st.integers(0, 3000))
def test_padding_reaches_the_wanted_length_exactly(tokens: int) -> None:
    """A padded answer has the wanted tokens, or its own if more, and keeps its meaning."""
    text = padded(ANSWER, tokens)
    assert estimate(text) == max(tokens, estimate(ANSWER))
    assert json.loads(text)["label"] == "positive"


def test_a_long_answer_gives_a_reason() -> None:
    """Where there is room for words, the padding is a reason."""
    said = json.loads(padded(ANSWER, 30))
    assert said["reason"].startswith("the review says what it liked")


@given(tokens=st.integers(1, 3000))
def test_words_are_as_many_tokens_as_wanted(tokens: int) -> None:
    """Plain text has the wanted length by the estimate."""
    assert estimate(words(tokens)) == tokens


def test_max_tokens_cuts_the_reply() -> None:
    """A reply that is too long is cut in proportion and says so."""
    text = words(100)
    cut = limited(text, 25, estimate)
    assert (cut.tokens, cut.finish_reason) == (25, "length")
    assert (text.startswith(cut.text), estimate(cut.text)) == (True, 25)


@pytest.mark.parametrize("max_tokens", [None, 100, 500])
def test_a_reply_within_its_limit_stops_by_itself(max_tokens: int | None) -> None:
    """Nothing is cut when the limit is not passed."""
    text = words(100)
    assert limited(text, max_tokens, estimate) == (text, 100, "stop")
