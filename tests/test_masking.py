"""API keys as they are shown: what is public of them, and nothing that is secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_llm.masking import masked, masked_table, unmasked_table

REAL = "sk-or-v1-0e6f5a" + "b" * 58


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("key-1", "key-1"),
        ("reviews-of-user7", "reviews-of-user7"),
        (REAL, "sk-or-v1-..."),
        ("sk-proj-abcdefgh1234", "sk-proj-..."),
        ("sk-ant-api03-abcdefgh", "sk-ant-api03-..."),
        ("sk-hunter2", "sk-..."),
        ("0123456789abcdef0123456789abcdef", "..."),
        ("AIzaSyA-0123456789abcdefghijklmnopqrst", "..."),
    ],
)
def test_only_what_is_public_is_shown(key: str, shown: str) -> None:
    """A short key that is no `sk-` is made up; of any other its kind is shown, and a hash."""
    assert masked(key) == key if shown == key else masked(key)[:-6] == shown


@given(st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=17, max_size=80))
def test_no_secret_is_in_the_mask(secret: str) -> None:
    """Not even a few letters of the secret part are left."""
    assert secret[:7] not in masked("sk-or-v1-" + secret).removeprefix("sk-or-v1-")
    assert secret[-7:] not in masked(secret)


def test_two_accounts_are_told_apart() -> None:
    """Different keys have different masks, and one key always has the same."""
    assert masked(REAL) != masked(REAL + "c")
    assert masked(REAL) == masked(str(REAL))


def test_keys_in_a_table_are_masked_and_put_back() -> None:
    """What was read with masks can be written again without losing a key."""
    table = {"keys": [REAL, "key-1"], "faults": {REAL: {"rate": 0.5}}, "reply": "text"}
    shown = masked_table(table)
    assert REAL not in str(shown)
    assert shown["keys"][1] == "key-1"
    assert unmasked_table(shown, table) == table
