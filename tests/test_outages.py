"""When and where a fault strikes: windows that come again, ramps, and endpoints without a model."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_llm.behaviour import Provider
from mock_llm.config import Throttle, Upstream
from mock_llm.errors import InputError
from mock_llm.faults import (
    ConnectionReset,
    Fault,
    HangBeforeHeaders,
    HtmlError,
    PrematureEof,
    RateLimited,
    ServerError,
)
from mock_llm.loader import convert
from mock_llm.plan import Call, Plan

ONE = Call(key="r", model="openai/gpt-4o", prompt_tokens=1)
OUTAGE = {"kind": "server_error", "rate": 0.5}


def _rates(at_s: tuple[float, ...], **window: Any) -> list[float]:
    fault = ServerError(rate=0.5, **window)
    return [fault.rate_at(one) for one in at_s]


def test_ramp_climbs_and_falls() -> None:
    """The rate grows from nothing to all of it, stays, and falls to nothing."""
    at_s = (9.0, 10.0, 11.0, 12.0, 14.0, 15.0, 19.0, 20.0)
    actual = _rates(at_s, from_s=10, until_s=20, ramp_s=4)
    assert actual == pytest.approx([0, 0, 0.125, 0.25, 0.5, 0.5, 0.125, 0])


def test_ramp_without_an_end_only_climbs() -> None:
    """What never ends stays at its full rate."""
    assert _rates((0.0, 1.0, 2.0, 1e8), ramp_s=2) == [0.0, 0.25, 0.5, 0.5]


def test_window_comes_again() -> None:
    """It is there once in every period, from its first time on."""
    at_s = (0.0, 9.9, 10.0, 14.9, 15.0, 109.9, 110.0, 115.0, 1012.0)
    actual = _rates(at_s, from_s=10, until_s=15, every_s=100)
    assert actual == [0, 0, 0.5, 0.5, 0, 0, 0.5, 0, 0.5]


@given(
    since_s=st.floats(0, 1e4),
    from_s=st.integers(0, 100),
    length_s=st.integers(1, 50),
    ramp=st.floats(0, 0.5),
    rest_s=st.integers(0, 50),
    again=st.integers(0, 9),
)
def test_every_window_is_like_the_first(
    since_s: float, from_s: int, length_s: int, ramp: float, rest_s: int, again: int
) -> None:
    """Its rate is a share of the full one, and the same a period later."""
    every_s = length_s + rest_s
    window: dict[str, Any] = {
        "from_s": from_s,
        "until_s": from_s + length_s,
        "ramp_s": ramp * length_s,
    }
    later_s = since_s + again * every_s
    now, later = _rates((since_s, later_s), every_s=every_s, **window)
    assert 0 <= now <= 0.5
    if since_s >= from_s and ramp > 0.01:
        assert later == pytest.approx(now, abs=1e-6 / ramp)


def test_outage_strikes_as_often_as_its_ramp_says() -> None:
    """Half-way up to .5 a quarter of 4,000 is struck, all of them also struck at the full rate."""
    faults = [ServerError(rate=0.5, until_s=40, ramp_s=20), ServerError(rate=0.5)]
    ramped, full = (Provider(Upstream(faults={"f": fault}), seed=1) for fault in faults)
    struck = set[str](), set[str]()
    for provider, keys in zip((ramped, full), struck, strict=True):
        provider.memory.began(0.0)
        for n in range(4000):
            call = Call(key=f"r{n}", model="openai/gpt-4o", prompt_tokens=1)
            if provider.admit(call, 10.0).status == 503:
                keys.add(call.key)
    assert len(struck[0]) == pytest.approx(1000, abs=4 * 28)
    assert struck[0] < struck[1]


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"from_s": 9, "until_s": 5}, "until_s: until_s must be after from_s = 9, got 5"),
        ({"from_s": 5, "until_s": 5}, "until_s: until_s must be after from_s = 5, got 5"),
        (
            {"until_s": 10, "ramp_s": 6},
            "ramp_s: ramp_s must be at most half of the window's 10 s, got 6",
        ),
        (
            {"every_s": 60},
            "every_s: every_s needs an until_s: a window without an end cannot come again",
        ),
        (
            {"from_s": 1, "until_s": 11, "every_s": 5},
            "every_s: every_s must be at least the window's 10 s, got 5",
        ),
        ({"routes": []}, "routes: must have a length >= 1, got 0"),
        (
            {"routes": ["model"]},
            "routes[0]: unknown value, the text 'model'; did you mean 'models'?",
        ),
        (
            {"routes": ["chat", "key"], "models": ["a"]},
            "models: models are named, and the route 'key' has none",
        ),
        (
            {"kind": "no_done", "routes": ["models"]},
            "routes: routes must be ['chat'] for a fault of this kind, not 'models'",
        ),
        ({"regimes": ["ugly"]}, "regimes[0]: unknown value, the text 'ugly'; expected"),
        (
            {"regimes": ["bad"]},
            "upstream.faults: faults name regimes ('f'), and there is no [upstream.regime]",
        ),
    ],
)
def test_impossible_windows_are_refused_in_one_line(
    window: dict[str, object], message: str
) -> None:
    """The key at fault is named, with what would be right."""
    with pytest.raises(InputError) as caught:
        convert({"upstream": {"faults": {"f": OUTAGE | window}}}, dict[str, Upstream], "x.toml")
    start = "x.toml: " if message.startswith("upstream") else "x.toml: upstream.faults.f."
    assert str(caught.value).startswith(start + message)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"throttle": {"tokens_per_min": 0}}, "throttle.tokens_per_min: must be >= 1, got 0"),
        ({"throttle": {"window": "fix"}}, "throttle.window: unknown value, the text 'fix'; did"),
        ({"regime": {"good_s": 60}}, "regime.bad_s: missing: expected a number"),
        ({"regime": {"good_s": 0, "bad_s": 1}}, "regime.good_s: must be >= 0.01, got 0"),
        ({"drift": {"factors": []}}, "drift.factors: must have a length >= 1, got 0"),
        ({"drift": {"factors": [1, 0]}}, "drift.factors[1]: must be > 0, got 0"),
        ({"credits_usd": -1}, "credits_usd: must be >= 0, got -1"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(table: object, message: str) -> None:
    """So are the other tables that say what a provider does over time."""
    with pytest.raises(InputError) as caught:
        convert(table, Upstream, "x.toml")
    assert str(caught.value).startswith(f"x.toml: {message}")


def _page(fault: Fault, route: Any, now: float = 0.0, **more: Any) -> Plan:
    provider = Provider(Upstream(faults={"f": fault}, **more), seed=1)
    return provider.admit(Call(key="r", model="", prompt_tokens=0, route=route), now)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (ServerError(rate=1, routes=("models",)), (503, "refused", "all")),
        (RateLimited(rate=1, routes=("models",)), (429, "refused", "all")),
        (HtmlError(rate=1, status=522, routes=("models",)), (522, "refused", "all")),
        (HtmlError(rate=1, status=200, routes=("models",)), (200, "end", "all")),
        (HangBeforeHeaders(rate=1, routes=("models",)), (200, "hang", "all")),
        (ConnectionReset(rate=1, routes=("models",)), (200, "reset", "nothing")),
        (PrematureEof(rate=1, routes=("models",)), (200, "eof", "part")),
    ],
)
def test_faults_strike_the_endpoints_they_name(
    fault: Fault, expected: tuple[int, str, str]
) -> None:
    """A page without a model is refused, left hanging or cut off; other endpoints are fine."""
    struck, spared = _page(fault, "models"), _page(fault, "key")
    assert (struck.status, struck.ending, struck.reach, struck.injected) == (*expected, ("f",))
    assert (spared.status, spared.ending, spared.injected) == (200, "clean", ())
    assert {(plan.cost_usd, plan.completion_tokens) for plan in (struck, spared)} == {(0.0, 0)}


def test_pages_are_neither_limited_nor_paid() -> None:
    """The throttle and the balance are about completions alone."""
    limits: dict[str, Any] = {
        "throttle": Throttle(requests_per_min=1, concurrent=1),
        "credits_usd": 0.0,
    }
    provider = Provider(Upstream(**limits), seed=1)
    page = Call(key="r", model="", prompt_tokens=0, route="credits")
    plans = [provider.admit(page, 0.0) for _ in range(5)]
    assert [(plan.status, plan.ticket, plan.first_token_s) for plan in plans] == [(200, 0, 0.0)] * 5
    assert provider.admit(ONE, 0.0).status == 402


def test_pages_shift_nobodys_weather() -> None:
    """Completions meet what they would have met without pages asked for in between."""
    fault = ServerError(rate=0.5, routes=("chat", "models"))
    plain, mixed = (Provider(Upstream(faults={"f": fault}), seed=1) for _ in range(2))
    page = Call(key="r", model="", prompt_tokens=0, route="models")
    pages, expected, actual = [], [], []
    for now in range(40):
        pages.append(mixed.admit(page, float(now)).status)
        actual.append(mixed.admit(ONE, float(now)))
        expected.append(plain.admit(ONE, float(now)))
    assert actual == expected
    assert set(pages) == {200, 503}
    assert pages != [plan.status for plan in actual]


def test_new_connection_pays_its_setup_on_any_page() -> None:
    """The first answer on a connection pays, whatever it is."""
    page = Call(key="r", model="", prompt_tokens=0, route="models", new_connection=True)
    plan = Provider(Upstream(connection_setup=0.3), seed=1).admit(page, 0.0)
    assert (plan.setup_s, plan.first_token_s, plan.last_token_s) == (0.3, 0.0, 0.0)
