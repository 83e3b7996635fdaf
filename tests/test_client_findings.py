"""Findings on clients: each is found where it is, and not where a sound client looks like it."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.client_findings import FINDINGS, Traffic, client_findings
from harness.client_findings.outcomes import not_retried
from mock_llm.ledger import Row


def row(at_s: float, key: str = "a", *, took_s: float = 0.1, **facts: Any) -> Row:
    """An attempt that was answered well; its refusal when it has another status."""
    status = facts.get("status", 200)
    usual: dict[str, Any] = {
        "ended": "complete" if status == 200 else "refused",
        "ending": "clean" if status == 200 else "refused",
        "headers_s": at_s + took_s,
        "last_token_s": at_s + took_s if status == 200 else None,
        "ended_s": at_s + took_s,
        "billed_usd": 1e-4 if status == 200 else 0.0,
    }
    return Row(key=key, arrived_s=at_s, **{"status": 200, **usual, **facts})


def hung(at_s: float, key: str = "a", *, took_s: float = 5.0, **facts: Any) -> Row:
    """An attempt that got no answer until its client left."""
    silence: dict[str, Any] = {"ended": "client_left", "ending": "hang", "headers_s": None}
    return row(at_s, key, took_s=took_s, last_token_s=None, **{**silence, **facts})


def cut(at_s: float, key: str = "a", **facts: Any) -> Row:
    """An attempt whose answer was broken off."""
    return row(at_s, key, **{"ended": "broken", "ending": "end", **facts})


def many(make: Callable[[int], list[Row]], count: int = 6) -> list[Row]:
    """The rows of several requests."""
    return [one for number in range(count) for one in make(number)]


def names(rows: list[Row], **known: Any) -> set[str]:
    """The findings on these rows."""
    return {found.name for found in client_findings(Traffic(rows, **known))}


BAD: dict[str, tuple[list[Row], dict[str, Any]]] = {
    "took_truncated_for_success": ([cut(0.0)], {"succeeded": {"a"}}),
    "no_timeout": ([hung(0.0, took_s=61.0)], {}),
    "retried_unretryable": ([row(0.0, status=404), row(1.0, status=404)], {}),
    "ignored_retry_after": ([row(0.0, status=429, retry_after_s=9.0), row(4.0)], {}),
    "retry_storm": ([row(n * 0.15, status=503) for n in range(3)] + [row(0.45)], {}),
    "hammered_after_429": (
        many(
            lambda n: [
                row(n * 0.3, str(n), status=429, retry_after_s=30.0),
                row(n * 3.0 + 60.0, str(n)),
            ],
            8,
        ),
        {},
    ),
    "gave_up_on_retryable": ([row(0.0, status=503, retry_after_s=2.0)], {}),
    "paid_twice": (
        [row(0.0, ended="client_left", headers_s=None, took_s=5.0), row(5.0, took_s=9.0)],
        {},
    ),
    "no_jitter": (many(lambda n: [row(0.0, str(n), status=503), row(2.0, str(n))]), {}),
    "no_pool": ([row(n * 0.5, str(n), new_connection=True) for n in range(4)], {}),
    "leaked_connections": ([row(0.0, new_connection=True)], {"open_connections": 1}),
}
SOUND: dict[str, tuple[list[Row], dict[str, Any]]] = {
    "nothing": ([], {}),
    "one answer": ([row(0.0)], {}),
    "equal prompts, both answered": ([row(n * 1.0) for n in range(9)], {}),
    "a cut answer tried again": ([cut(0.0), row(1.0)], {"succeeded": {"a"}}),
    "a cut answer that failed its caller": ([cut(0.0)], {"succeeded": {"b"}}),
    "a reset, of which any client hears": ([cut(0.0, ending="reset")], {}),
    "a time limit": ([hung(0.0), row(6.0)], {}),
    "a short hang when the mock stopped": ([hung(0.0, took_s=0.2, ended="shutdown")], {}),
    "a hang that goes on while the test does": (
        [hung(0.0, ended="", ended_s=None)],
        {"over": False},
    ),
    "another model after a 404": ([row(0.0, status=404), row(1.0, model="b")], {}),
    "another key after a 401": ([row(0.0, status=401, account="x"), row(1.0, account="y")], {}),
    "a shorter prompt after a 400": ([row(0.0, status=400), row(1.0, prompt_tokens=9)], {}),
    "a 402 that passes": ([row(0.0, status=402, retry_after_s=5.0), row(5.2)], {}),
    "a told wait, honoured": ([row(0.0, status=429, retry_after_s=9.0), row(9.2)], {}),
    "a told wait without its fraction": ([row(0.0, status=429, retry_after_s=16.4), row(16.1)], {}),
    "told to come at once": (
        [row(n * 0.15, status=503, retry_after_s=0.0) for n in range(4)] + [row(0.6)],
        {},
    ),
    "a day's limit is reason to give up": ([row(0.0, status=429, retry_after_s=4e4)], {}),
    "a bad request is given up": ([row(0.0, status=400)], {}),
    "a hang is billed, and so is its retry": ([hung(0.0, billed_usd=1e-4), row(6.0)], {}),
    "calls at once need connections": (
        [row(0.0, str(n), new_connection=True) for n in range(9)],
        {},
    ),
    "an idle connection is closed at last": (
        [row(n * 20.0, str(n), new_connection=True) for n in range(4)],
        {},
    ),
    "a pool still in use": ([row(0.0)], {"open_connections": 1, "over": False}),
    "jitter": (
        many(lambda n: [row(0.0, str(n), status=503), row(1.0 + n * 0.3, str(n))]),
        {},
    ),
    "a crowd that jitter has spread": (
        many(lambda n: [row(0.0, str(n), status=503), row(1.0 + n * 0.01, str(n))], 40),
        {},
    ),
    "in flight when the 429 came": (
        many(lambda n: [row(0.0, str(n), status=429), row(2.0 + n * 0.3, str(n))]),
        {},
    ),
    "what nobody could read": ([row(n * 0.1, "", status=413) for n in range(4)], {}),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_bad_client_gets_its_finding_alone(name: str) -> None:
    """The traffic of each mistake gets that finding, and no other."""
    rows, known = BAD[name]
    assert names(rows, **known) == {name}


@pytest.mark.parametrize("case", SOUND)
def test_sound_client_gets_none(case: str) -> None:
    """What a sound client does, or cannot help, is no finding."""
    rows, known = SOUND[case]
    assert names(rows, **known) == set()


@pytest.mark.parametrize("name", FINDINGS)
def test_finding_shows_its_evidence(name: str) -> None:
    """A finding has a number in its sentence, advice, rows that were there, and a form for JSON."""
    rows, known = BAD[name]
    (found,) = client_findings(Traffic(rows, **known))
    told = found.told()
    assert any(letter.isdigit() for letter in found.text)
    assert found.advice
    assert all(any(one is seen for seen in rows) for one in found.rows)
    assert (told["name"], told["attempts"]) == (name, len(found.rows))


def test_unreported_truncation_is_told_with_its_doubt() -> None:
    """When the caller has not said what it took for success, the sentence says so, as a warning."""
    (found,) = client_findings(Traffic([cut(0.0)]))
    assert found.severity == "warning"
    assert found.text.endswith("whether it failed instead, its caller has not said")


def test_stuck_client_waits_for_ever() -> None:
    """Who waited when nothing could ever wake is told apart from who only waited long."""
    (found,) = client_findings(Traffic([hung(0.0, took_s=0.2)], stuck={"a"}))
    assert found.text == "1 call would wait for ever for an answer that never comes"


def test_waiting_when_the_mock_stopped_is_told() -> None:
    """Who still waits at the end, a second and longer, has no time limit that anybody saw."""
    (found,) = client_findings(Traffic([hung(0.0, took_s=3.0, ended="shutdown")]))
    assert found.text == "1 call still waited after 3.0 s when the mock stopped"


def test_too_many_attempts_are_a_storm_however_slow() -> None:
    """Seven attempts at one request are too many even with pauses."""
    rows = [row(n * 10.0, status=503) for n in range(7)]
    assert names(rows) == {"retry_storm"}


@pytest.mark.parametrize(
    ("last", "status", "left"),
    [
        (row(1.0, status=503), None, 1),
        (row(1.0, status=503), 503, 1),
        (row(1.0, status=503), 429, 0),
        (row(1.0, status=400), None, 0),
        (row(1.0, status=402), None, 0),
        (row(1.0, status=402, retry_after_s=1.0), None, 1),
        (cut(1.0), None, 1),
        (hung(1.0), None, 1),
        (row(1.0), None, 0),
    ],
)
def test_last_failures_are_found(last: Row, status: int | None, left: int) -> None:
    """A passing failure that is a request's last word was not retried; any other is final."""
    assert len(not_retried(Traffic([row(0.0, status=503), last]), status)) == left


ROWS = st.lists(
    st.builds(
        row,
        st.floats(0, 100),
        st.sampled_from(["", "a", "b", "c"]),
        took_s=st.floats(0, 100),
        status=st.sampled_from([200, 400, 402, 429, 503]),
        ended=st.sampled_from(["", "complete", "refused", "broken", "client_left", "shutdown"]),
        ending=st.sampled_from(["", "clean", "refused", "hang", "stall", "end", "reset"]),
        retry_after_s=st.none() | st.floats(0, 50),
        new_connection=st.booleans(),
    ),
    max_size=30,
)


@given(rows=ROWS, shuffled=st.randoms())
def test_findings_do_not_depend_on_the_order_of_rows(rows: list[Row], shuffled: Any) -> None:
    """Rows are judged by their times alone, and each belongs to one request at most."""
    distinct = list({one.arrived_s: one for one in rows}.values())
    before = client_findings(Traffic(distinct))
    shuffled.shuffle(distinct)
    assert client_findings(Traffic(distinct)) == before
    grouped = [one for request in Traffic(distinct).requests for one in request]
    assert len(grouped) == sum(one.key != "" for one in distinct)
