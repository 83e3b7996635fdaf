"""The lint: every rule speaks of its trap and of nothing else, and its bounds hold in a run."""

import re
from pathlib import Path

import pytest
from linting import FINE
from runs import CRISIS, ROOT, flown

from harness.engines.base import prepare
from harness.experiments.lint import RULES, Warn, lint, lint_lines
from harness.experiments.lint.asked import paces
from harness.experiments.lint.case import Case
from harness.scenario.load import load_file


def found(folder: Path, variant: str, *sets: str) -> list[Warn]:
    """What is said of a variant of the fine scenario, with a change."""
    path = folder / "mine.toml"
    path.write_text(FINE)
    scenario = load_file(path, sets, variant).resolve(variant)
    return lint(prepare(scenario, base=folder))


@pytest.mark.parametrize("variant", ["batch", "arrivals", "users"])
def test_nothing_is_said_of_what_is_fine(variant: str, tmp_path: Path) -> None:
    """A scenario that asks for less than it can have is left alone."""
    assert found(tmp_path, variant) == []


# rule: variant, settings, key, what the text says.
TRAPS: list[tuple[str, str, list[str], str, str]] = [
    (
        "too_slow",
        "batch",
        ["pipeline.concurrency=2"],
        "slo.duration_s",
        "100 calls of 1.00 s, 2 at once, take 50 s at least; the promise is 30 s",
    ),
    (
        "too_slow",
        "batch",
        ["pipeline.job_deadline_s=10", "pipeline.attempt_timeout_s=2", "pipeline.retries=0"],
        "pipeline.job_deadline_s",
        "100 calls of 1.00 s, 5 at once, take 20 s at least; the job is ended after 10 s",
    ),
    (
        "too_slow",
        "batch",
        ["slo.throughput_per_s=>= 6"],
        "slo.throughput_per_s",
        "100 calls of 1.00 s, 5 at once, are 5.00/s at most; the promise is 6.00/s",
    ),
    (
        "overload",
        "arrivals",
        ["workload.arrivals.rate_per_s=8.0"],
        "pipeline.workers",
        "6 workers do 6.00/s at most: they wait ",
    ),
    (
        "overload",
        "users",
        ["workload.users=300"],
        "pipeline.workers",
        "14.3/s; 6 workers do 6.00/s at most: they wait 30 s, and have 150 s",
    ),
    (
        "limit_per_user",
        "batch",
        ["workload.users=1", "pipeline.rate_limit=60", "slo={}"],
        "pipeline.rate_limit",
        "1 user with 60 requests a minute each may ask for 1.00/s; 5 calls at once could do 5.00/s",
    ),
    (
        "limit_per_user",
        "users",
        ["pipeline.rate_limit=2"],
        "pipeline.rate_limit",
        "100 users with 2 requests a minute each may ask for 3.33/s; they ask for 4.76/s",
    ),
    (
        "throttled",
        "batch",
        ["upstream.throttle.requests_per_min=90", "slo={}"],
        "upstream.throttle.requests_per_min",
        "300 calls a minute are asked for, 233 % more than the 90 that the provider admits",
    ),
    (
        "throttled",
        "batch",
        ["upstream.throttle.concurrent=3"],
        "upstream.throttle.concurrent",
        "the provider admits 3 calls at once, up to 5 are made",
    ),
    (
        "deep_queue",
        "arrivals",
        ["pipeline.queue.useful_only=false"],
        "pipeline.queue",
        "10,000 may wait, the last of them 27 min 47 s; of those only the first 894 are",
    ),
    (
        "vulnerable_band",
        "arrivals",
        ["upstream.capacity.slots=5", "pipeline.workers=200", "pipeline.backoff.base_s=0.1"],
        "pipeline.retries",
        "4.00/s come, between the 1.25/s that the provider could do if every call needed its 3",
    ),
    (
        "no_time_limit",
        "batch",
        ["pipeline.attempt_timeout_s=none"],
        "pipeline.attempt_timeout_s",
        "nothing ends a call that never answers",
    ),
    (
        "long_time_limit",
        "batch",
        ["upstream.faults.x={kind='hang_mid_stream', rate=0.01}"],
        "pipeline.attempt_timeout_s",
        "1.0 % of the calls hang and keep a slot for 30 s: 23 % of the slots' time",
    ),
    (
        "ladder",
        "arrivals",
        ["workload.deadline_s=40"],
        "pipeline.attempt_timeout_s",
        "4 attempts of 30 s and 1.8 s of pauses take 122 s; the deadline is 40 s, and 1 of them",
    ),
    (
        "ladder",
        "arrivals",
        ["pipeline.deadline_s=200"],
        "pipeline.deadline_s",
        "200 s, while callers wait 150 s: it never holds",
    ),
    (
        "out_of_patience",
        "batch",
        ["upstream.faults.x={kind='server_error', rate=1.0, from_s=5, until_s=65}"],
        "pipeline.retries",
        "the outage 'x' lasts 60 s, the attempts are over within 3.7 s at most",
    ),
    (
        "no_pause",
        "batch",
        ["pipeline.backoff.base_s=0"],
        "pipeline.backoff",
        "failed calls are made again at once, up to 3 times",
    ),
    (
        "slot_inside",
        "batch",
        ["pipeline.slot=inside_timeout", "pipeline.attempt_timeout_s=10", "pipeline.retries=0"],
        "pipeline.slot",
        "of 100 that begin together about 50 are served in time",
    ),
    (
        "slot_never",
        "batch",
        ["pipeline.slot=never"],
        "pipeline.slot",
        "the semaphore of 5 is never acquired: 100 calls at once",
    ),
    (
        "small_pool",
        "arrivals",
        ["pipeline.pool_limit=5"],
        "pipeline.pool_limit",
        "5 connections for 6 workers: 1 calls wait for one",
    ),
    (
        "send_all",
        "batch",
        ["pipeline.context=send_all"],
        "pipeline.context",
        "every prompt holds all exchanges before it: ",
    ),
    (
        "hit_rate",
        "batch",
        ["slo.cache.hit_rate=>= 0.8", "pipeline.cache=memory"],
        "slo.cache.hit_rate",
        "0 % of the requests have a text that came before; the promise is 80 % hits",
    ),
    (
        "hit_rate",
        "batch",
        ["slo.cache.hit_rate=>= 0.8", "workload.corpus=templates8"],
        "slo.cache.hit_rate",
        "there is no cache; the promise is 80 % hits",
    ),
    (
        "over_again",
        "users",
        ["pipeline.cache=memory", "workload.requests_per_user=20"],
        "workload.reviews",
        "about 2,000 requests ask about 1,000 reviews: up to 50 % come again",
    ),
]


@pytest.mark.parametrize(
    ("rule", "variant", "sets", "key", "text"), TRAPS, ids=[f"{one[0]}-{one[1]}" for one in TRAPS]
)
def test_trap_is_told_and_nothing_else(
    rule: str, variant: str, sets: list[str], key: str, text: str, tmp_path: Path
) -> None:
    """One change makes one warning: which key, what is wrong, and by how much."""
    (one,) = found(tmp_path, variant, *sets)
    assert (one.rule, one.key) == (rule, key)
    assert text in one.text
    assert one.advice


def test_every_rule_has_a_trap_and_a_line_in_the_documents() -> None:
    """No rule goes without an example, or without a word about it."""
    assert {one[0] for one in TRAPS} == set(RULES)
    page = (ROOT / "docs" / "lint.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(RULES)


BAND = ["upstream.capacity.slots=5", "pipeline.workers=200"]
HITS = "slo.cache.hit_rate=>= 0.8"
SPIKE = "{kind='spike', base_per_s=2, factor=4, at_s=9, for_s=9}"
CURES: list[tuple[str, str, list[str]]] = [
    ("vulnerable_band", "arrivals", [*BAND, "upstream.handler_cancellation=true"]),
    ("vulnerable_band", "arrivals", [*BAND, "upstream.capacity.order=lifo"]),
    ("vulnerable_band", "arrivals", [*BAND, "upstream.capacity.queue=20"]),
    ("vulnerable_band", "arrivals", [*BAND, "pipeline.retry_budget={}"]),
    ("vulnerable_band", "arrivals", [*BAND, "pipeline.workers=20"]),
    ("vulnerable_band", "arrivals", [*BAND, "pipeline.retries=0"]),
    ("vulnerable_band", "arrivals", [*BAND, "workload.arrivals.rate_per_s=1.2"]),
    ("deep_queue", "arrivals", ["pipeline.queue.useful_only=false", "pipeline.queue.size=800"]),
    ("deep_queue", "users", ["pipeline.queue.useful_only=false"]),
    ("deep_queue", "arrivals", ["workload.deadline_s=none"]),
    ("long_time_limit", "batch", ["upstream.faults.x={kind='hang_mid_stream', rate=0.001}"]),
    ("out_of_patience", "batch", ["upstream.throttle.requests_per_min=90"]),
    (
        "out_of_patience",
        "batch",
        ["upstream.faults.x={kind='server_error', rate=1.0, until_s=60}", "pipeline.retries=9"],
    ),
    (
        "hit_rate",
        "batch",
        ["slo.cache.hit_rate=>= 0.8", "pipeline.cache=memory", "pipeline.near={}"],
    ),
    ("limit_per_user", "batch", ["workload.users=1", "pipeline.rate_limit=100"]),
    (
        "overload",
        "arrivals",
        ["workload.arrivals={kind='spike',base_per_s=2,factor=4,at_s=9,for_s=9}"],
    ),
    ("throttled", "batch", ["workload.reviews=50", "upstream.throttle.requests_per_min=60"]),
    ("no_time_limit", "arrivals", ["pipeline.attempt_timeout_s=none"]),
]


@pytest.mark.parametrize(
    ("rule", "variant", "sets"), CURES, ids=[f"{n}-{one[0]}" for n, one in enumerate(CURES)]
)
def test_rule_is_silent_where_it_is_cured(
    rule: str, variant: str, sets: list[str], tmp_path: Path
) -> None:
    """What looks like a trap and is none is left alone."""
    assert rule not in {one.rule for one in found(tmp_path, variant, *sets)}


def test_limit_without_hints_runs_out_of_patience(tmp_path: Path) -> None:
    """Where no Retry-After is told, or honoured, short pauses do not outlive a limit per minute."""
    limit = "upstream.throttle.requests_per_min=90"
    for unheard in ("upstream.throttle.form=bare", "pipeline.backoff.honour_retry_after=false"):
        (one,) = (
            w for w in found(tmp_path, "batch", limit, unheard) if w.key == "pipeline.retries"
        )
        assert (
            "tried again for 1.8 s on average; the provider's limit looks back over 60 s"
            in one.text
        )


def test_queue_without_a_deadline_is_told_when_it_fills(tmp_path: Path) -> None:
    """More comes than is served, and nobody says how long is too long."""
    sets = ["workload.deadline_s=none", "workload.arrivals.rate_per_s=8.0"]
    (one,) = (w for w in found(tmp_path, "arrivals", *sets) if w.rule == "deep_queue")
    assert "the last of 10,000 waits 27 min 47 s, and no deadline says" in one.text


def test_trace_is_looked_into(tmp_path: Path) -> None:
    """A trace's own burst is what piles up."""
    (tmp_path / "t.csv").write_text("t_s\n" + "\n".join(str(n / 12.5) for n in range(2000)))
    sets = ["workload.arrivals={kind='trace', file='t.csv'}", "workload.duration_s=none"]
    (one,) = found(tmp_path, "arrivals", *sets)
    assert (one.rule, "by 160 s there is a queue" in one.text) == ("overload", True)


@pytest.mark.parametrize(
    "sets",
    [
        ["pipeline.concurrency=2"],
        ["workload.users=1", "pipeline.rate_limit=60"],
        ["workload.users=1", "pipeline.rate_limit=60", "pipeline.limiter=gcra"],
        ["upstream.throttle.requests_per_min=60", "pipeline.retries=20"],
        ["upstream.throttle={requests_per_min=40, window='fixed'}", "pipeline.retries=20"],
        ["workload.corpus=templates8", "pipeline.cache=memory"],
    ],
)
def test_bounds_hold_in_a_run(sets: list[str], tmp_path: Path) -> None:
    """No run is faster than the lint says that one can be."""
    path = tmp_path / "mine.toml"
    path.write_text(FINE)
    run = flown("batch", *sets, scenario=path)
    least_s = max(pace.least_s for pace in paces(Case(run.prepared)))
    assert run.report["ok"] == 100
    assert 0 < least_s <= run.report["duration_s"]


def test_page_shows_what_is_told() -> None:
    """The two lines on the page are two of the crisis's nine."""
    file = load_file(CRISIS)
    told = lint_lines({name: lint(prepare(file.resolve(name))) for name in file.names()})
    page = (ROOT / "docs" / "lint.md").read_text("utf-8")
    shown = [line for line in page.splitlines() if ". Try: " in line]
    assert (len(shown), len(told), set(shown) <= set(told)) == (2, 9, True)


@pytest.mark.parametrize(
    ("variant", "sets"),
    [
        (
            "arrivals",
            ["workload.arrivals.rate_per_s=9", "workload.duration_s=90", "workload.deadline_s=20"],
        ),
        ("users", ["workload.users=300", "workload.duration_s=120"]),
    ],
)
def test_service_does_no_more_than_its_workers_can(
    variant: str, sets: list[str], tmp_path: Path
) -> None:
    """Overload is told of, and the run serves what the lint says that the workers do at most."""
    path = tmp_path / "mine.toml"
    path.write_text(FINE)
    run = flown(variant, *sets, scenario=path)
    case = Case(run.prepared)
    served_per_s = run.report["ok"] / run.report["duration_s"]
    assert "overload" in {one.rule for one in lint(run.prepared)}
    assert 0.9 * case.capacity_per_s < served_per_s <= case.capacity_per_s


def test_crisis_is_told_of_its_traps_and_of_nothing_else() -> None:
    """The traps are told; the good variants are not, but for what holds after_storm back."""
    file = load_file(CRISIS)
    said = {
        name: [(one.rule, one.key) for one in lint(prepare(file.resolve(name)))]
        for name in file.names()
    }
    limit = "pipeline.attempt_timeout_s"
    assert said == {
        "sequential": [("too_slow", "slo.duration_s"), ("no_time_limit", limit)],
        "batched": [],
        "snippet": [("slot_never", "pipeline.slot")],
        "after": [],
        "one_gather": [("slot_inside", "pipeline.slot")],
        "before_storm": [
            ("too_slow", "pipeline.job_deadline_s"),
            ("too_slow", "slo.duration_s"),
            ("no_time_limit", limit),
        ],
        "after_storm": [
            ("throttled", "upstream.throttle.requests_per_min"),
            ("long_time_limit", limit),
        ],
        "first_day": [("no_time_limit", limit)],
    }
