"""What is asked of the planner: goals, promises and knobs, and what is refused."""

from pathlib import Path

import pytest
from planning import SMALL, question

from harness.errors import InputError
from harness.experiments.plan import parse_goal, parse_knob
from harness.scenario.slo import Bound
from mock_llm.config import Throttle

REDUCED = "[upstream.throttle]\nrequests_per_min = 240\ntokens_per_min = 9000\n"
USERS = """
[workload]
kind = "users"
users = 3
think = 5.0
duration_s = 20.0
[upstream.profile]
ttft = 1.0
"""


@pytest.mark.parametrize(
    ("text", "kind", "settings", "promises"),
    [
        ("5000 reviews in 600 s", "batch", ("workload.reviews=5000",), "duration_s <= 600"),
        ("5,000 reviews in 10 min", "batch", ("workload.reviews=5000",), "duration_s <= 600"),
        (
            "5_000 requests in 1.5 hours",
            "batch",
            ("workload.reviews=5000",),
            "duration_s <= 5400",
        ),
        ("1000 users", "users", ("workload.users=1000",), ""),
        ("8.33/s", "batch", (), "throughput_per_s >= 8.33"),
        ("40 requests per second", "arrivals", (), "throughput_per_s >= 40"),
    ],
)
def test_goals_in_words(text: str, kind: str, settings: tuple[str, ...], promises: str) -> None:
    """A goal says how much work there is, and by when it is done or how fast."""
    goal = parse_goal(text, kind)
    assert goal.settings == settings
    assert " ".join(f"{metric} {bound}" for metric, bound in goal.promises.items()) == promises


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("fast", "batch", "not understood"),
        ("10 users", "batch", 'workload.kind is "batch"'),
        ("10 reviews in 5 s", "users", 'workload.kind is "users"'),
        ("0 reviews in 5 s", "batch", "no number of reviews"),
        ("1.5 users", "users", "no number of reviews or users"),
        ("5 reviews in 0 s", "batch", "no time"),
        ("5 reviews in 3 fortnights", "batch", "no unit of time"),
        ("9,000,000 reviews in 5 s", "batch", "5,000,000 are the most"),
        ("9000000 users", "users", "5,000,000 are the most"),
        ("0/s", "batch", "does nothing"),
    ],
)
def test_nonsense_goals_are_refused(text: str, kind: str, said: str) -> None:
    """What is no goal is told in one line that names it."""
    with pytest.raises(InputError, match=said) as told:
        parse_goal(text, kind)
    assert text in str(told.value)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("pipeline.retries=0-3", ["retries=0", "retries=1", "retries=2", "retries=3"]),
        ("pipeline.concurrency=5-20:5", [f"concurrency={n}" for n in (5, 10, 15, 20)]),
        ("pipeline.concurrency=1,4-5", ["concurrency=1", "concurrency=4", "concurrency=5"]),
        ("pipeline.barrier=true,false", ["barrier=true", "barrier=false"]),
        (
            'pipeline.router={kind="single",model="a,b"},{kind="smart"}',
            ['router={kind="single",model="a,b"}', 'router={kind="smart"}'],
        ),
    ],
)
def test_values_of_a_knob(text: str, labels: list[str]) -> None:
    """Values are parted at commas outside of tables, and ranges are written out."""
    assert [choice.label for choice in parse_knob(text, Throttle()).choices] == labels


@pytest.mark.parametrize(
    "text",
    [
        *("pipeline.retries", "pipeline.retries=", "pipeline.retries=1,,2", "=1", "a..b=1"),
        *("pipeline.retries=3-1", "pipeline.retries=1-9:0", "pipeline.retries=1,1"),
        *("pipeline.retries=0-5000", "variants.x=1", "keys=1-2"),
    ],
)
def test_nonsense_knobs_are_refused(text: str) -> None:
    """What is no knob with values is told in one line that names the option."""
    with pytest.raises(InputError, match="--over"):
        parse_knob(text, Throttle())


def test_keys_stand_for_the_limits_of_so_many(tmp_path: Path) -> None:
    """Three keys have three times the limits of one, and the answer says that it is taken so."""
    asked = question(tmp_path, "60 reviews in 60 s", over=["keys=1-3"], text=SMALL + REDUCED)
    limits = [one.scenario.upstream.throttle for one in asked.configurations]
    assert [limit.requests_per_min for limit in limits] == [240, 480, 720]
    assert [limit.tokens_per_min for limit in limits] == [9000, 18000, 27000]
    assert "one key" in asked.notes[0]


def test_more_keys_of_one_account_are_refused(tmp_path: Path) -> None:
    """Where limits are for the account, another key is worth nothing."""
    text = SMALL + REDUCED + 'per = "account"\n'
    with pytest.raises(InputError, match="for the account"):
        question(tmp_path, "60 reviews in 60 s", over=["keys=1-3"], text=text)


def test_goals_take_the_place_of_the_scenarios_promises(tmp_path: Path) -> None:
    """A promise of the file holds unless a goal or a --slo is about the same figure."""
    text = SMALL + 'duration_s = "<= 5"\n"latency_s.p95" = "<= 9"\n'
    asked = question(tmp_path, "60 reviews in 60 s", slo=["latency_s.p95 <= 4"], text=text)
    bounds = {bound.metric: bound for bound in asked.bounds}
    assert bounds["duration_s"].limit == 60
    assert bounds["latency_s.p95"].limit == 4
    assert bounds["success_rate"].limit == 1


def test_a_goal_is_reached_by_answers_only(tmp_path: Path) -> None:
    """Without a word on success all but what may time out must be answered."""
    text = SMALL.replace('success_rate = ">= 1"', "")
    asked = question(tmp_path, "60 reviews in 60 s", slo=["timeout_rate<=0.01"], text=text)
    assert Bound("success_rate", ">=", 0.99) in asked.bounds


def test_goals_of_users_set_how_many(tmp_path: Path) -> None:
    """A goal of users is run with so many of them."""
    asked = question(tmp_path, "40 users", slo=["latency_s.p95<=2"], text=USERS)
    assert asked.scenario.workload.users == 40


@pytest.mark.parametrize(
    ("goals", "options", "said"),
    [
        ([], {"text": USERS}, "nothing to plan for"),
        (["5 reviews in 9 s", "6 reviews in 9 s"], {}, "twice"),
        (["5 reviews in 9 s"], {"slo": ["duration_s"]}, "expected a metric"),
        (["5 reviews in 9 s"], {"slo": ["speed<=1"]}, "unknown metric"),
        (["5 reviews in 9 s"], {"slo": ["ok>=1", "ok>=2"]}, "twice"),
        (["5 reviews in 9 s"], {"over": ["pipeline.speed=1"]}, "--over pipeline.speed=1: unknown"),
        (["5 reviews in 9 s"], {"over": ["pipeline.retries=1", "pipeline.retries=2"]}, "twice"),
        (
            ["5 reviews in 9 s"],
            {"over": ["pipeline.retries=0-200", "pipeline.concurrency=1-200"]},
            "configurations",
        ),
    ],
)
def test_questions_that_do_not_fit_are_refused(
    tmp_path: Path, goals: list[str], options: dict[str, list[str]], said: str
) -> None:
    """A contradiction, an unknown name or too much at once is one line before anything runs."""
    with pytest.raises(InputError, match=said):
        question(tmp_path, *goals, **options)  # type: ignore[arg-type]


def test_a_corpus_must_have_what_the_goal_asks_for(tmp_path: Path) -> None:
    """A goal of more reviews than a file has would be reached by doing less."""
    (tmp_path / "few.jsonl").write_text('{"id": "1", "text": "good"}\n{"id": "2", "text": "bad"}\n')
    with pytest.raises(InputError, match="has 2 reviews"):
        question(tmp_path, "60 reviews in 60 s", sets=["workload.corpus=few.jsonl"])
