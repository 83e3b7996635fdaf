"""The four scores of a review: their range, their parts, and what raises each part."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.corpus.review import Review
from harness.pipeline.routing import complexity, score, scores
from harness.pipeline.routing.scores import (
    PARTS,
    SCORING_VERSION,
    WEIGHTS,
    count_specifications,
)


def review(content: str, title: str = "", category: str = "") -> Review:
    """A review of that text."""
    return Review(id="r", title=title, content=content, category=category)


SAMPLES = [
    review("Good", category="gift_cards"),
    review("A dull plot, but the acting is perhaps better than in part 1.", "Slow", "dvd"),
    review(
        "The 16 GB model is great; the DCB-2000 would be, if its battery were better.\n\n"
        "However, it is slower than my old one, and it seems flimsy: returned.",
        category="electronics",
    ),
]

texts = st.text() | st.lists(
    st.sampled_from(
        ["good", "bad", "but", "if", "16 GB", "x100", "than", "maybe", "!", ".", "\n\n"]
    )
).map(" ".join)
reviews = st.builds(
    review, texts, texts, st.sampled_from(["", "electronics", "books", "gift_cards", "no such"])
)


class TestScores:
    """Four scores, their parts and their sum."""

    @settings(deadline=None)
    @given(reviews)
    @example(review("\ud800"))
    @example(review("if good but bad 1 gb than maybe, " * 5_000))
    @example(review("!" * 100_000 + "x"))
    @example(review("²" * 9 + " gb"))
    def test_everything_lies_in_0_to_1(self, item: Review) -> None:
        """Parts, scores, total and the routed number, for any text whatever."""
        scores = score(item)
        parts = [getattr(getattr(scores, name), part) for name in PARTS for part in PARTS[name]]
        numbers = [*parts, *map(scores.value, WEIGHTS), scores.total, complexity(item)]
        assert [n for n in numbers if not 0 <= n <= 1] == []

    @settings(deadline=None)
    @given(st.text("ab1.,'-_! \n") | st.text(st.characters(max_codepoint=127)))
    @example("it's a 1,000.5-inch, 2.5.x b--c 'd' 3.")
    def test_plain_text_is_cut_into_the_words_of_any_text(self, text: str) -> None:
        """The quick pattern for ASCII finds what the one for all letters finds."""
        text = text.lower()
        assert scores._ASCII_WORD.findall(text) == scores._WORD.findall(text)

    def test_weights_sum_to_1(self) -> None:
        """The scores' weights, and the parts' weights within each."""
        sums = [sum(weights.values()) for weights in (WEIGHTS, *PARTS.values())]
        assert sums == pytest.approx([1.0] * 5)
        assert [total for total in sums if total > 1] == []

    def test_weights_are_the_stated_ones(self) -> None:
        """Technical 35 %, sentiment 25 %, length and domain 20 % each."""
        assert list(WEIGHTS.items()) == [
            ("technical", 0.35),
            ("sentiment", 0.25),
            ("length", 0.20),
            ("domain", 0.20),
        ]

    def test_total_is_the_weighted_sum(self) -> None:
        """Nothing but the four scores enters the total."""
        scores = score(SAMPLES[2])
        assert scores.total == pytest.approx(sum(w * scores.value(n) for n, w in WEIGHTS.items()))

    @settings(deadline=None)
    @given(reviews, st.sampled_from(["16 GB", "2.5-inch", "DCB-2000", "1080p", "900MHz"]))
    def test_a_specification_never_lowers_its_part(self, item: Review, added: str) -> None:
        """One more of them scores the same or more."""
        more = review(f"{item.content} {added}", item.title, item.category)
        assert score(more).technical.specifications >= score(item).technical.specifications

    @settings(deadline=None)
    @given(reviews, st.text("abc xyz", min_size=1))
    def test_more_words_never_lower_their_part(self, item: Review, added: str) -> None:
        """A longer review scores the same or more for its words."""
        more = review(f"{item.content} {added}", item.title, item.category)
        assert score(more).length.words >= score(item).length.words

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("16 gb", 1),
            ("16gb 20-inch", 2),
            ("i7 dcb-2000 1080p", 3),
            ("2.4 ghz", 1),
            ("the 1st, the 90s, 5pm, in 1999", 0),
            ("the first of 3 cups, top-ten", 0),
        ],
    )
    def test_specifications_are_units_and_model_numbers(self, text: str, found: int) -> None:
        """Plain numbers, ordinals, decades and hours are none."""
        assert count_specifications(text.replace(",", "").split()) == found

    def test_mixed_feelings_outweigh_single_ones(self) -> None:
        """Praise alone has no mixture, praise and blame have, a contrast word makes it more."""
        shown = ["good and great", "good and terrible", "good but terrible"]
        mixed = [score(review(text)).sentiment.mixed for text in shown]
        assert mixed == [0.0, 0.5, 0.75]

    @pytest.mark.parametrize(
        ("plain", "more", "name", "part"),
        [
            ("the book", "the voltage", "technical", "keywords"),
            ("good and old", "better than before", "technical", "comparisons"),
            ("it works", "if it works", "sentiment", "conditionals"),
            ("it works", "perhaps it works", "sentiment", "nuance"),
            ("It is. It was.", "It is what it was.", "length", "structure"),
            ("It is what it was", "It is, what it was", "length", "structure"),
            ("It is what it was", "It is; what it was", "length", "structure"),
            ("one", "one two", "length", "words"),
            ("one\ntwo", "one\n\ntwo", "length", "paragraphs"),
        ],
    )
    def test_each_part_sees_its_own_sign(self, plain: str, more: str, name: str, part: str) -> None:
        """What a part is named after raises it."""
        low, high = (getattr(getattr(score(review(t)), name), part) for t in (plain, more))
        assert low < high

    def test_parts_halve_what_is_left(self) -> None:
        """Each further comparison takes half the distance to 1."""
        parts = [score(review("than " * n)).technical.comparisons for n in range(4)]
        assert parts == [0.0, 0.5, 0.75, 0.875]

    def test_keywords_count_by_density(self) -> None:
        """One keyword in 25 words is the half, whatever its case."""
        assert score(review("VOLTAGE" + " it" * 24)).technical.keywords == pytest.approx(0.5)

    def test_a_title_is_no_paragraph(self) -> None:
        """Its words count, its line does not; nor do blank lines around the content."""
        length = score(review("\n\n one \n\n", "Title")).length
        assert (length.paragraphs, length.words) == (0.0, score(review("a b")).length.words)

    def test_keywords_depend_on_the_category(self) -> None:
        """A soundtrack is technical in a film, not in a soap; unknown categories know the rest."""
        found = [
            score(review("soundtrack", category=c)).technical.keywords > 0
            for c in ("dvd", "beauty", "no such")
        ]
        assert found == [True, False, False]

    def test_electronics_are_the_most_technical_domain(self) -> None:
        """Electronics 1, gift cards .1, anything unknown .5."""
        values = [
            score(review("x", category=c)).domain.category
            for c in ("electronics", "gift_cards", "no such", "")
        ]
        assert values == [1.0, 0.1, 0.5, 0.5]

    def test_scores_are_pinned_to_their_version(self) -> None:
        """Where these totals move and the version does not, FORMULA was forgotten."""
        totals = [round(score(item).total, 6) for item in SAMPLES]
        assert (SCORING_VERSION, totals) == (
            "2b1216bbdfa5",
            [0.021773, 0.35977, 0.623227],
        )
