"""A context-free grammar with sentiment, read from text and compiled to closures.

Notation, one rule per name in ``vocabulary/*.txt``::

    # a comment
    claim = 3* the {part} is {quality} | it {does}
      although {!claim}, {claim}
    quality+ = great | superb
    quality- = bad | awful

Alternatives stand between `` | `` or on lines of their own and are equally likely, ``3*`` counts
one three times, ``~`` is the empty one. ``{part}`` expands a rule, ``{a|b}`` chooses in place,
``{2-90}`` is a whole number, both ends included. A rule written ``name+`` and ``name-`` has two
sentiments: ``{name}`` takes the sentiment of what surrounds it, ``{!name}`` turns it round.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

Draw = Callable[[], float]
Expand = Callable[[Draw], str]
Sentiment = Literal["+", "-"]
Rules = Mapping[str, tuple[str, ...]]

_OTHER: Mapping[Sentiment, Sentiment] = {"+": "-", "-": "+"}
_SLOT = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)-(\d+)")
_WEIGHT = re.compile(r"(\d+)\* (.*)")


def parse_rules(text: str) -> dict[str, tuple[str, ...]]:
    """Rules by name (with its ``+`` or ``-``), each a tuple of alternatives, repeated by weight."""
    rules: dict[str, tuple[str, ...]] = {}
    name = ""
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        head, body = ("", line) if line.startswith(" ") else line.split(" = ", 1)
        name = head or name
        rules[name] = rules.get(name, ()) + tuple(_alternatives(body))
    return rules


def _alternatives(body: str) -> Iterable[str]:
    for part in body.split(" | "):
        weighted = _WEIGHT.fullmatch(part.strip())
        count, words = (int(weighted[1]), weighted[2]) if weighted else (1, part.strip())
        yield from ["" if words == "~" else words] * count


class Grammar:
    """Compiled rules; every rule is compiled once per sentiment and on first use.

    Args:
        rules: as `parse_rules` gives them; a missing rule is a `KeyError` naming it.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._compiled: dict[tuple[str, Sentiment], Expand] = {}

    def rule(self, name: str, sentiment: Sentiment) -> Expand:
        """The function that expands a rule, given a source of uniforms in [0, 1)."""
        known = self._compiled.get((name, sentiment))
        if known is not None:
            return known
        choices: list[tuple[str, tuple[Expand, ...]]] = []
        expand = _choose(choices)
        self._compiled[name, sentiment] = expand  # before its parts: a rule may contain itself
        choices += [self._compile(text, sentiment) for text in self._alternatives(name, sentiment)]
        return expand

    def _alternatives(self, name: str, sentiment: Sentiment) -> tuple[str, ...]:
        return self._rules[name] if name in self._rules else self._rules[name + sentiment]

    def _compile(self, text: str, sentiment: Sentiment) -> tuple[str, tuple[Expand, ...]]:
        slots = tuple(self._slot(slot, sentiment) for slot in _SLOT.findall(text))
        return _SLOT.sub("%s", text.replace("%", "%%")), slots

    def _slot(self, slot: str, sentiment: Sentiment) -> Expand:
        bounds = _RANGE.fullmatch(slot)
        if bounds:
            return _number(int(bounds[1]), int(bounds[2]))
        if "|" in slot:
            return _word(tuple(slot.split("|")))
        if slot.startswith("!"):
            return self.rule(slot[1:], _OTHER[sentiment])
        alternatives = self._alternatives(slot, sentiment)
        plain = not any("{" in text for text in alternatives)
        return _word(alternatives) if plain else self.rule(slot, sentiment)


def _choose(choices: list[tuple[str, tuple[Expand, ...]]]) -> Expand:
    def expand(draw: Draw) -> str:
        pattern, slots = choices[int(draw() * len(choices))]
        return pattern % tuple([slot(draw) for slot in slots]) if slots else pattern % ()

    return expand


def _word(words: tuple[str, ...]) -> Expand:
    count = len(words)
    return lambda draw: words[int(draw() * count)]


def _number(low: int, high: int) -> Expand:
    count = high - low + 1
    return lambda draw: str(low + int(draw() * count))
