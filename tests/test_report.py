"""What a person reads: figures as text, the table, the headline and the lessons."""

from collections.abc import Sequence
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rows import attempt, served

from harness.bottlenecks import bottlenecks
from harness.metrics import accuracy, summary
from harness.records import Record
from harness.report.headline import best_of, headline, lessons
from harness.report.table import Report, by_variant, run_table
from harness.report.text import length, percent, rate, usd
from harness.scenario.model import Variant
from harness.scenario.pipeline import Pipeline

PERCENTS = [
    (0.0, "0 %"),
    (1e-6, "under 0.1 %"),
    (0.001, "0.1 %"),
    (0.0449, "4.5 %"),
    (0.1, "10.0 %"),
    (0.131, "13 %"),
    (0.99, "99 %"),
    (0.993, "99.3 %"),
    (0.995, "99.5 %"),
    (0.9996, "99.96 %"),
    (0.99996, "99.99 %"),
    (1 - 1e-12, "99.99 %"),
    (1.0, "100 %"),
    (1.53, "153 %"),
]
LENGTHS = [
    (0.0, "0.0 s"),
    (0.84, "0.8 s"),
    (9.96, "10.0 s"),
    (234.1, "234 s"),
    (299.4, "299 s"),
    (299.6, "5 min"),
    (1389.0, "23 min 9 s"),
    (7199.4, "119 min 59 s"),
    (7199.6, "2 h 0 min"),
    (7500.0, "2 h 5 min"),
]
DOLLARS = [
    (0.0, "$0.00"),
    (1e-9, "under $0.0001"),
    (0.00005, "$0.0001"),
    (0.0269, "$0.0269"),
    (0.445, "$0.45"),
    (3.79, "$3.79"),
    (12345.6, "$12,345.60"),
]
RATES = [
    (0.0, "0.00/s"),
    (0.72, "0.72/s"),
    (4.096, "4.10/s"),
    (42.34, "42.3/s"),
    (1666.7, "1,667/s"),
]


@pytest.mark.parametrize(("share", "text"), PERCENTS)
def test_percent(share: float, text: str) -> None:
    """Less than all is never 100 %, and more than nothing never 0 %."""
    assert percent(share) == text


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_no_share_is_rounded_to_all_or_nothing(share: float) -> None:
    """Only 1 is 100 %, and only 0 is 0 %."""
    assert percent(share) not in {"100 %", "100.0 %", "0 %", "0.0 %"}


@pytest.mark.parametrize(("seconds", "text"), LENGTHS)
def test_length(seconds: float, text: str) -> None:
    """A duration has the units that a person would take, and never 60 s in a minute."""
    assert length(seconds) == text


@pytest.mark.parametrize(("dollars", "text"), DOLLARS)
def test_usd(dollars: float, text: str) -> None:
    """Small sums keep their digits, and what cost something is never $0.00."""
    assert usd(dollars) == text


@pytest.mark.parametrize(("per_s", "text"), RATES)
def test_rate(per_s: float, text: str) -> None:
    """Throughput has about three digits and no exponent."""
    assert rate(per_s) == text


def report(records: Sequence[Record], variant: str = "v", **changes: Any) -> dict[str, Any]:
    """A run's report, made of its rows as a run makes it."""
    settings = changes.pop("settings", Pipeline())
    figures = summary(records, baseline_usd_per_m=1.0, repeats_in_input=0.0, job_failed=False)
    found = bottlenecks(records, settings)
    truth = {row.key: "positive" for row in records if row.outcome == "ok"}
    told = [{"cause": f.cause, "lost": f.lost, "text": f.text} for f in found]
    return {
        "scenario": "crisis",
        "variant": variant,
        "engine": "virtual",
        "seed": 1,
        "valid": True,
        "invalid_reasons": [],
        "stopped": None,
        **figures,
        "accuracy": accuracy(truth, truth),
        "corpus": {"name": "synthetic", "reviews": len(records), "warnings": []},
        "bottlenecks": told,
        "client_findings": [],
        "notes": [],
        "expect": "pass",
        "slo": {"passed": True, "checks": []},
        **changes,
    }


GOOD = served([1.0] * 50)
MISSED = {
    "passed": False,
    "checks": [
        {"metric": "duration_s", "bound": "<= 600", "value": 1413.2, "passed": False},
        {"metric": "success_rate", "bound": ">= 1", "value": 1.0, "passed": True},
        {"metric": "accuracy.value", "bound": ">= 0.9", "value": None, "passed": False},
    ],
}
INVALID: dict[str, Any] = {
    "valid": False,
    "invalid_reasons": ["nothing can ever wake again: [r1] waits"],
}


def shown(
    reports: Sequence[Report], variants: dict[str, Variant] | None = None, width: int = 80
) -> str:
    """The table as a terminal of that width has it."""
    console = Console(file=StringIO(), width=width, highlight=False)
    console.print(run_table(reports, variants or {}))
    out = console.file
    assert isinstance(out, StringIO)
    assert max(map(len, out.getvalue().splitlines())) <= width
    return out.getvalue()


def cells(text: str) -> list[list[str]]:
    """The table's rows, each column's lines joined without the breaks."""
    rows: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith(("├", "┡", "└")):
            rows.append(["", "", "", ""])
        elif line.startswith("│") and rows:
            for at, part in enumerate(line.strip("│").split("│")):
                rows[-1][at] += part.replace(" ", "")
    return rows[:-1]


LONG = "a_variant_with_a_name_that_is_longer_than_any_table_of_eighty_columns_could_ever_have_shown"


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_table_loses_no_text(width: int) -> None:
    """Every run is there, the invalid ones too, with all that is said of it, at any width."""
    reports = [
        report(GOOD, "fine"),
        report(GOOD, "slow", expect="fail", slo=MISSED),
        report(GOOD, "worse", slo=MISSED),
        report(GOOD, "stuck", **INVALID),
        report(served([1.0, 1.0, 9.0] * 20, wave=10), LONG),
        report(served([1.0] * 50, slots=10), "[x] wild [/]"),
        report([], "empty"),
    ]
    claim = "everything, [see the post], in 11.5 min and with thebestofallpossibleconcurrencies"
    variants = {"fine": Variant(claim=claim), "[x] wild [/]": Variant(claim="[/]")}
    rows = cells(shown(reports, variants, width))
    names = [row[0] for row in rows]
    assert names == [
        "fineholds",
        "slowfails,asexpected",
        "worsefails",
        "stuckINVALID",
        f"{LONG}holds",
        "[x]wild[/]holds",
        "emptynothingsucceeded",
    ]
    assert rows[0][1] == claim.replace(" ", "")
    assert rows[5][1] == "[/]"
    whys = [row[3] for row in rows]
    missed = "missed:duration_s<=600(1413)missed:accuracy.value>=0.9(nothingmeasured)"
    assert whys[2].endswith(missed)
    assert whys[3] == "nothingcaneverwakeagain:[r1]waits"
    for at, told in enumerate(reports):
        if told["valid"]:
            texts = "".join(bottleneck["text"] for bottleneck in told["bottlenecks"])
            assert whys[at].startswith(texts.replace(" ", ""))


def test_the_table_says_what_was_done() -> None:
    """Speed, count, time, money and labels, as the report has them."""
    rows = cells(shown([report(GOOD, cost_usd=0.445, baseline_cost_usd=1.5, cost_reduction=0.703)]))
    expected = (
        "5.00/s,50of50okin10sabatch:2.0satfirst,median2.0s,2.0satlast"
        "$0.45,70%belowbaselinelabels100%right(92-100%)"
    )
    assert rows[0][2] == expected


def test_more_than_the_baseline_is_over_it() -> None:
    """A dearer run is so many per cent over the baseline, not a negative number below it."""
    told = report(GOOD, cost_usd=3.79, baseline_cost_usd=1.5, cost_reduction=-1.527)
    assert "$3.79,153%overbaseline" in cells(shown([told]))[0][2]


def test_without_an_answer_nothing_is_said_of_baseline_or_labels() -> None:
    """A run that only failed has a cost and no more."""
    rows = [attempt(spent={"first_token": 9.0}, ended_in="first_token", cost_usd=0.2)]
    assert cells(shown([report(rows)]))[0][2] == "0.00/s,0of1okin9.0s$0.20"


def test_hits_are_shown_beside_repeats() -> None:
    """A hit rate means nothing without the repeats in the input."""
    cache = {"lookups": 10, "hits": 6, "hit_rate": 0.6, "repeats_in_input": 0.59}
    told = cells(shown([report(GOOD, cache=cache)]))[0][2]
    assert told.endswith("cachehits60%,repeatsininput59%")


def test_a_mean_of_almost_all_is_not_all() -> None:
    """Over seeds 49.9 of 50 are not 50, and the scatter of the speed is told."""
    reports = [report(GOOD, seed=seed) for seed in range(1, 11)]
    reports[3].update(ok=49, throughput_per_s=4.0)
    text = shown(reports, width=120)
    assert "crisis · 10 seeds · synthetic" in text
    assert cells(text)[0][2].startswith("4.90±0.32/s,49of50ok")
    assert "(92-100%)" not in cells(text)[0][2]


def test_one_bad_seed_is_the_one_that_is_told_of() -> None:
    """The state of a variant is its worst run's, and so is the reason."""
    good = report(GOOD, seed=1)
    failed = report(GOOD, seed=2, slo=MISSED)
    invalid = report(GOOD, seed=3, **INVALID)
    (row,) = cells(shown([good, failed]))
    assert row[0] == "vfails1of2"
    assert "missed:duration_s<=600(1413)" in row[3]
    (row,) = cells(shown([good, failed, invalid]))
    assert (row[0], row[3]) == ("vINVALID", "seed3:nothingcaneverwakeagain:[r1]waits")


def test_an_expected_failure_that_holds_is_told() -> None:
    """A trap that does not snap is news."""
    assert cells(shown([report(GOOD, expect="fail")]))[0][0] == "vholds(unexpected)"


def test_engines_are_told_apart_where_there_are_several() -> None:
    """A variant on two engines is two rows; on one engine the engine goes without saying."""
    both = [report(GOOD), report(GOOD, engine="live")]
    assert list(by_variant(both)) == ["v virtual", "v live"]
    assert list(by_variant(both[:1])) == ["v"]


FAST, SLOW = served([1.0] * 50), served([2.0] * 50)
BARRED = served([1.0, 1.0, 9.0] * 20, wave=10)


def test_the_best_keeps_its_promises() -> None:
    """The fastest of those that hold is best, however fast the others are."""
    reports = [report(SLOW, "slow"), report(FAST, "fast", slo=MISSED), report(FAST, "x", **INVALID)]
    assert best_of(reports) == "slow"
    text = "slow is the best at 2.50/s; what holds it back: its 5 slots, 100% busy: one more is "
    assert headline(reports) == f"{text}worth 0.50/s."


def test_where_all_break_their_promises_nobody_is_praised() -> None:
    """The fastest is named, and that it is no good."""
    reports = [report(SLOW, "slow", slo=MISSED), report(FAST, "fast", slo=MISSED)]
    assert best_of(reports) == "fast"
    assert headline(reports).startswith("fast breaks its promises as all do, and is the fastest at")


def test_one_invalid_seed_disqualifies() -> None:
    """A variant is as sound as its worst run, and the headline says why none is."""
    reports = [report(FAST, seed=1), report(FAST, seed=2, **INVALID)]
    assert best_of(reports) is None
    assert headline(reports) == "No variant is valid: nothing can ever wake again: [r1] waits"


def test_a_run_of_nothing_has_a_headline() -> None:
    """Without rows there is nothing to be found, and it is said so."""
    expected = "v breaks its promises at 0.00/s; what holds it back: nothing that its records show."
    assert headline([report([])]) == expected


def test_each_lesson_is_told_once_by_whom_it_cost_most() -> None:
    """Of two variants behind a barrier the one that lost more speaks, and the best does not."""
    reports = [
        report(FAST, "best"),
        report(BARRED, "barred"),
        report(served([1.0, 1.0, 2.0] * 20, wave=10), "little"),
        report(served([9.0] * 9, slots=1), "serial"),
    ]
    told = lessons(reports)
    assert [line.split(":")[0] for line in told] == ["barred", "serial"]
    assert told[0].startswith("barred: the barrier: ")


def test_the_bests_own_trouble_is_no_lesson() -> None:
    """The headline has told of it."""
    assert lessons([report(BARRED)]) == []
    assert "the barrier" in headline([report(BARRED)])


def test_what_invalid_runs_teach_is_told() -> None:
    """A run that waits for ever is no run, and the best of lessons."""
    hung = attempt(ended_in="first_token", outcome="failed", error="never_answered")
    stuck = report([*served([1.0] * 9, slots=4), hung], "stuck", **INVALID)
    reports = [report(FAST, "best"), stuck]
    (told,) = lessons(reports)
    assert told.startswith("stuck: no answer comes and nothing times out: r1 would wait")


def test_an_interrupted_run_is_no_winner() -> None:
    """A run that was broken off neither holds nor is the best, however fast it was."""
    broken_off = report(GOOD, "fast", stopped="interrupted", throughput_per_s=99.0)
    assert cells(shown([broken_off]))[0][0] == "fastinterrupted"
    assert headline([broken_off, report(GOOD, "slow")]).startswith("slow is the best")
    assert "interrupted before the first" in headline([broken_off])
