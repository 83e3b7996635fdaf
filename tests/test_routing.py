"""Routers: the legacy rule, fitted shares and their file."""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from statistics import mean, pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.corpus.review import Review
from harness.errors import InputError
from harness.pipeline.routing import (
    MEASURED_SHARES,
    TARGET_SHARES,
    LegacyRouter,
    Router,
    SingleRouter,
    SmartRouter,
    complexity,
    score,
)
from harness.pipeline.routing.scores import SCORING_VERSION, WEIGHTS

REAL = Path(__file__).parents[2] / "shared" / "data" / "reviews_test_5k.csv.gz"
TEMPLATES = [f"{'very ' * n}good but {'if ' * (n % 3)}slow, {n * 8} GB" for n in range(8)]
FITTED = {"shares": {"a": 0.5, "b": 0.5}, "thresholds": [0.4], "scoring": SCORING_VERSION}


def review(content: str, title: str = "", category: str = "") -> Review:
    """A review of that text."""
    return Review(id="r", title=title, content=content, category=category)


@cache
def varied() -> list[Review]:
    """1,200 distinct reviews from short and plain to long and technical."""
    openings = ["Good", "I hate it", "The 16 GB model works", "Maybe it fits, if you try"]
    middles = ["", " but the battery is worse than before.", " It seems slow.", "\n\nCompare it."]
    categories = ["electronics", "books", "gift_cards"]
    return [
        review(f"{opening}{middle * (1 + n % 4)} Unit {n}{' and so on' * n}.", category=category)
        for opening, middle, category, n in product(openings, middles, categories, range(25))
    ]


@cache
def real() -> list[Review]:
    """The real reviews, where they are at hand."""
    with gzip.open(REAL, "rt", encoding="utf-8", newline="") as lines:
        return [
            review(row["content"], row["title"], row["category"]) for row in csv.DictReader(lines)
        ]


def worst_error(
    router: SmartRouter, corpus: Sequence[Review], shares: Mapping[str, float]
) -> float:
    """The largest distance between a model's share of the corpus and its normalised target."""
    used = Counter(route.model for route in router.route_all(corpus))
    total = sum(shares.values())
    return max(abs(used[model] / len(corpus) - share / total) for model, share in shares.items())


class TestLegacy:
    """The router of before."""

    def test_long_reviews_go_to_the_strong_model(self) -> None:
        """Over 500 characters of title and content together, not a character less."""
        models = [LegacyRouter().route(review("x" * n, "t" * 100)).model for n in (400, 401)]
        assert models == ["openai/gpt-3.5-turbo", "openai/gpt-4o"]

    def test_electronics_go_to_the_strong_model(self) -> None:
        """The category overrides the length."""
        assert LegacyRouter().route(review("ok", category="electronics")).model == "openai/gpt-4o"

    def test_version_tells_settings_apart(self) -> None:
        """Another limit, another version."""
        assert LegacyRouter().version != LegacyRouter(long_chars=501).version

    def test_explains_the_limit(self) -> None:
        """The lines name what was seen and the model it led to."""
        lines = LegacyRouter().explain(review("x" * 600)).splitlines()
        assert lines[1:] == ["seen: 600 characters, over 500", "-> openai/gpt-4o"]


@pytest.mark.parametrize("router", [LegacyRouter(), SingleRouter("m"), SmartRouter({"m": 1}, ())])
def test_explanation_ends_with_the_routed_model(router: Router) -> None:
    """What a router explains is what it does, and it has a version to be cached by."""
    shown = router.explain(review("fine"))
    assert router.route(review("fine")).model in shown.splitlines()[-1]
    assert router.version


class TestFit:
    """Thresholds from a corpus."""

    @pytest.mark.parametrize("shares", [TARGET_SHARES, MEASURED_SHARES])
    def test_shares_are_met(self, shares: Mapping[str, float]) -> None:
        """On 1,200 distinct reviews within half a percentage point, model by model."""
        assert worst_error(SmartRouter.fit(varied(), shares), varied(), shares) <= 0.005

    @settings(deadline=None)
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=6).filter(any))
    def test_any_shares_are_met(self, values: list[float]) -> None:
        """Whatever is asked for, zeros included."""
        shares = {f"model {n}": value for n, value in enumerate(values)}
        assert worst_error(SmartRouter.fit(varied(), shares), varied(), shares) <= 0.005

    def test_equal_scores_are_parted_by_their_text(self) -> None:
        """1,000 distinct reviews that all score alike still meet the shares."""
        alike = [review(f"Fine item number {n}") for n in range(1000)]
        assert len({score(item).total for item in alike}) == 1
        assert worst_error(SmartRouter.fit(alike, TARGET_SHARES), alike, TARGET_SHARES) <= 0.005

    def test_templates_come_as_near_as_they_can(self) -> None:
        """Eight texts in turn: no share is further off than half a template."""
        cycle = [review(TEMPLATES[n % 8]) for n in range(1000)]
        halves = {"a": 0.8, "b": 0.2}
        assert worst_error(SmartRouter.fit(cycle, halves), cycle, halves) <= 1 / 16 + 1e-9

    def test_a_single_text_goes_one_way(self) -> None:
        """A corpus without any spread is no error."""
        same = [review("Good")] * 100
        router = SmartRouter.fit(same, TARGET_SHARES)
        assert {route.model for route in router.route_all(same)} == {"openai/gpt-4o-mini"}
        assert router.thresholds == (1.0, 1.0, 1.0, 1.0)

    def test_dearer_models_get_higher_scores(self) -> None:
        """Every review of a model scores below every review of the next."""
        routes = SmartRouter.fit(varied(), MEASURED_SHARES).route_all(varied())
        ordered = sorted(routes, key=lambda route: route.score or 0.0)
        assert list(dict.fromkeys(route.model for route in ordered)) == list(MEASURED_SHARES)

    def test_a_zero_share_gets_nothing(self) -> None:
        """Not even a review easier or harder than all it was fitted to."""
        router = SmartRouter.fit(varied()[300:600], {"none": 0, "all": 2, "never": 0})
        extremes = [review("", category="gift_cards"), *varied()]
        assert {route.model for route in router.route_all(extremes)} == {"all"}

    def test_target_is_the_stated_one(self) -> None:
        """80/15/4/1/.1 %, which add up to 100.1."""
        assert list(TARGET_SHARES.values()) == [0.80, 0.15, 0.04, 0.01, 0.001]

    @pytest.mark.parametrize(
        ("shares", "message"),
        [
            ({"a": -0.1, "b": 1.0}, 'the share of "a" is -0.1'),
            ({"a": float("nan")}, 'the share of "a" is nan'),
            ({"a": float("inf")}, 'the share of "a" is inf'),
            ({"a": 0.0, "b": 0.0}, "router shares add up to 0"),
            ({"a": 1e308, "b": 1e308}, "router shares add up to inf"),
            ({}, "router shares add up to 0"),
        ],
    )
    def test_bad_shares_are_refused(self, shares: dict[str, float], message: str) -> None:
        """One line that says what is wrong with them."""
        with pytest.raises(InputError, match=message):
            SmartRouter.fit(varied()[:10], shares)

    def test_an_empty_corpus_is_refused(self) -> None:
        """There is nothing to fit to."""
        with pytest.raises(InputError, match="empty corpus"):
            SmartRouter.fit([], TARGET_SHARES)


class TestSmart:
    """Routing by given thresholds."""

    def test_a_score_at_a_threshold_goes_up(self) -> None:
        """Below is cheaper, at or above is dearer."""
        value = complexity(review("Good"))
        routers = [SmartRouter({"a": 1, "b": 1}, (value + step,)) for step in (-1e-9, 0, 1e-9)]
        assert [router.route(review("Good")).model for router in routers] == ["b", "b", "a"]

    def test_version_follows_thresholds_and_shares(self) -> None:
        """Equal routers share a version, others do not."""
        made = [({"a": 1, "b": 1}, [0.5]), ({"a": 1, "b": 1}, [0.6]), ({"b": 1, "a": 1}, [0.5])]
        versions = [SmartRouter(shares, cuts).version for shares, cuts in made]
        assert len(set(versions)) == 3
        assert SmartRouter({"a": 1.0, "b": 1.0}, (0.5,)).version == versions[0]

    def test_explain_shows_each_score(self) -> None:
        """Every score by name with its number, the total, and the model."""
        router = SmartRouter.fit(varied(), TARGET_SHARES)
        scores = score(varied()[600])
        shown = router.explain(varied()[600]).splitlines()
        assert [" ".join(line.split()[:2]) for line in shown[:4]] == [
            f"{name} {scores.value(name):.3f}" for name in WEIGHTS
        ]
        assert shown[4].startswith(f"total {scores.total:.3f}")
        assert shown[5].split()[1].rstrip(",") == router.route(varied()[600]).model

    @pytest.mark.parametrize(
        ("cuts", "message"),
        [
            ([], "2 models need 1 thresholds"),
            ([0.1, 0.2], "got 2"),
            ([1.5], "must lie in 0-1"),
            ([float("nan")], "must lie in 0-1"),
        ],
    )
    def test_bad_thresholds_are_refused(self, cuts: list[float], message: str) -> None:
        """The wrong number of them, or out of range."""
        with pytest.raises(InputError, match=message):
            SmartRouter({"a": 1, "b": 1}, cuts)

    def test_falling_thresholds_are_refused(self) -> None:
        """A middle model cannot end before it starts."""
        with pytest.raises(InputError, match="must not fall"):
            SmartRouter({"a": 1, "b": 1, "c": 1}, [0.5, 0.4])


class TestFile:
    """Thresholds on disk."""

    @settings(deadline=None)
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.data())
    def test_dict_round_trip_is_exact(self, cuts: list[float], data: st.DataObject) -> None:
        """Any router comes back as it was, through JSON text, to the last bit."""
        names = [f"m{n}" for n in range(len(cuts) + 1)]
        router = SmartRouter({name: data.draw(st.floats(0.001, 1)) for name in names}, sorted(cuts))
        again = SmartRouter.from_dict(json.loads(json.dumps(router.to_dict())))
        assert (again.to_dict(), again.version) == (router.to_dict(), router.version)

    def test_file_round_trip_is_exact(self, tmp_path: Path) -> None:
        """A fitted router decides the same after save and load, and leaves one file."""
        router = SmartRouter.fit(varied(), TARGET_SHARES)
        router.save(tmp_path / "router.json")
        again = SmartRouter.load(tmp_path / "router.json")
        assert again.version == router.version
        assert again.route_all(varied()) == router.route_all(varied())
        assert [path.name for path in tmp_path.iterdir()] == ["router.json"]

    @pytest.mark.parametrize(
        ("stored", "message"),
        [
            ("", "not a fitted router"),
            ("{", "not a fitted router"),
            ("[1]", "Expected `object`, got `array`"),
            ('{"shares": {}}', "missing required field `thresholds`"),
            (json.dumps(FITTED | {"more": 1}), "unknown field `more`"),
            (json.dumps(FITTED | {"thresholds": ["x"]}), "Expected `float`, got `str`"),
            (json.dumps(FITTED | {"thresholds": [2]}), "must lie in 0-1"),
            (json.dumps(FITTED | {"shares": {"a": -1, "b": 2}}), 'the share of "a" is -1'),
            (json.dumps(FITTED | {"scoring": "old"}), "fit them again"),
        ],
    )
    def test_a_bad_file_is_named(self, tmp_path: Path, stored: str, message: str) -> None:
        """One line with the path and what is wrong."""
        path = tmp_path / "router.json"
        path.write_text(stored)
        with pytest.raises(InputError) as caught:
            SmartRouter.load(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_bytes_that_are_no_text_are_refused(self, tmp_path: Path) -> None:
        """A binary file is a bad file like any other."""
        path = tmp_path / "router.json"
        path.write_bytes(b'{"shares": {"\xff": 1}, "thresholds": [], "scoring": ""}')
        with pytest.raises(InputError, match="not a fitted router"):
            SmartRouter.load(path)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        """Loading says what could not be read."""
        with pytest.raises(InputError, match=r"none\.json: cannot be read: No such file"):
            SmartRouter.load(tmp_path / "none.json")

    def test_an_unwritable_place_is_named(self, tmp_path: Path) -> None:
        """Saving says what could not be written."""
        with pytest.raises(InputError, match="cannot be written: No such file"):
            SmartRouter({"m": 1}, ()).save(tmp_path / "no" / "router.json")

    def test_a_dict_of_the_wrong_shape_is_refused(self) -> None:
        """The same check without a file."""
        with pytest.raises(InputError, match="not a fitted router"):
            SmartRouter.from_dict({"shares": 1})


@pytest.mark.skipif(not REAL.exists(), reason="the real reviews are not beside the project")
class TestRealReviews:
    """5,000 real reviews of ten categories."""

    @pytest.mark.parametrize("shares", [TARGET_SHARES, MEASURED_SHARES])
    def test_shares_are_met(self, shares: Mapping[str, float]) -> None:
        """Within half a percentage point on the first 1,000."""
        corpus = real()[:1000]
        assert worst_error(SmartRouter.fit(corpus, shares), corpus, shares) <= 0.005

    def test_scores_spread(self) -> None:
        """Neither squeezed together nor piled up at an end."""
        values = [complexity(item) for item in real()[:1000]]
        assert 0.2 < mean(values) < 0.5
        assert pstdev(values) > 0.1
        assert max(values) < 0.95

    def test_electronics_score_above_gift_cards(self) -> None:
        """The scores tell categories apart on average."""
        means = [
            mean(complexity(item) for item in real()[:2000] if item.category == category)
            for category in ("electronics", "kitchen", "gift_cards")
        ]
        assert means == sorted(means, reverse=True)
