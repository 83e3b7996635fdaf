"""The grammar: its notation, its two sentiments, and that the shipped vocabulary is whole."""

import re
from importlib.resources import files
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.corpus.grammar import Grammar, parse_rules
from harness.corpus.synthetic import CATEGORIES

RULES = """
# a comment
claim = the {part} is {quality}
  it is {quality}, not {!quality}

part = screen | 3* zoom lens | ~
quality+ = good
quality- = bad
cost = ${9-11} | 5% {more|less}
nest = {nest} too | done
"""
ROOTS = ("title", "opening", "sentence", "blend", "remark")


def _vocabulary(name: str) -> dict[str, tuple[str, ...]]:
    return parse_rules((files("harness.corpus") / "vocabulary" / f"{name}.txt").read_text("utf-8"))


def _slots(alternatives: tuple[str, ...]) -> set[str]:
    found = (slot.lstrip("!") for text in alternatives for slot in re.findall(r"\{(.*?)\}", text))
    return {slot for slot in found if slot.replace("_", "").isalpha()}


def test_rules_are_read_with_continuations_weights_and_nothing() -> None:
    """Lines of a rule add up, a weight repeats an alternative, and a tilde is the empty one."""
    rules = parse_rules(RULES)
    assert rules["part"] == ("screen", "zoom lens", "zoom lens", "zoom lens", "")
    assert rules["claim"] == ("the {part} is {quality}", "it is {quality}, not {!quality}")


@pytest.mark.parametrize(
    ("sentiment", "expected"),
    [("+", "it is good, not bad"), ("-", "it is bad, not good")],
)
def test_a_mark_turns_the_sentiment_round(sentiment: str, expected: str) -> None:
    """A plain reference keeps the sentiment of its surroundings, a marked one takes the other."""
    expand = Grammar(parse_rules(RULES)).rule("claim", "+" if sentiment == "+" else "-")
    assert expand(lambda: 0.99) == expected


@pytest.mark.parametrize(
    ("uniform", "expected"), [(0.0, "$9"), (0.49, "$10"), (0.5, "5% less"), (0.99, "5% less")]
)
def test_numbers_and_choices_in_place(uniform: float, expected: str) -> None:
    """A range is a whole number of it, a choice one of its words, and a percent sign itself."""
    assert Grammar(parse_rules(RULES)).rule("cost", "+")(lambda: uniform) == expected


@given(st.floats(0, 1, exclude_max=True))
def test_a_range_includes_both_ends_and_no_more(uniform: float) -> None:
    """Every uniform in [0, 1) gives a number from the first to the last."""
    number = Grammar({"n": ("{2-4}",)}).rule("n", "+")(lambda: uniform)
    assert number == str(2 + int(uniform * 3))


def test_a_rule_may_contain_itself() -> None:
    """Recursion ends when the draws choose an alternative that ends it."""
    draws = iter([0.1, 0.1, 0.9])
    assert Grammar(parse_rules(RULES)).rule("nest", "+")(lambda: next(draws)) == "done too too"


def test_an_unknown_rule_is_named() -> None:
    """A reference to a rule that nobody wrote fails by its name."""
    with pytest.raises(KeyError, match="colour"):
        Grammar({"claim": ("in {colour}",)}).rule("claim", "+")


def test_there_is_a_vocabulary_for_every_category() -> None:
    """The categories on offer are the files that exist beside the common one."""
    names = {entry.name for entry in (files("harness.corpus") / "vocabulary").iterdir()}
    assert names == {f"{name}.txt" for name in (*CATEGORIES, "common")}


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_rule_is_reachable_and_every_reference_resolves(category: str) -> None:
    """From the sentences every rule of the vocabulary is reached, and none that is missing."""
    rules = _vocabulary("common") | _vocabulary(category)
    bare: dict[str, set[str]] = {}
    for name, alternatives in rules.items():
        bare.setdefault(name.rstrip("+-"), set()).update(_slots(alternatives))
    reached, new = set[str](), set(ROOTS)
    while new:
        reached |= new
        new = {slot for name in new for slot in bare[name]} - reached
    assert reached == set(bare)


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_rule_with_a_sentiment_has_both(category: str) -> None:
    """No rule is written for praise and forgotten for blame, nor with and without a sentiment."""
    rules = _vocabulary("common") | _vocabulary(category)
    praise = {name[:-1] for name in rules if name.endswith("+")}
    blame = {name[:-1] for name in rules if name.endswith("-")}
    assert praise == blame
    assert praise & set(rules) == set()


@pytest.mark.parametrize("category", CATEGORIES)
def test_no_notation_is_left_in_the_text(category: str) -> None:
    """Expanded sentences hold words and punctuation, no braces, bars, tildes or weights."""
    grammar = Grammar(_vocabulary("common") | _vocabulary(category))
    draw = Random(1).random
    text = " ".join(grammar.rule(name, "-")(draw) for name in ROOTS for _ in range(400))
    assert re.findall(r"[{}|~*!=#]", text) == []
