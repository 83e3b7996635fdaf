"""Tables are read and converted strictly; every refusal is one line that names the culprit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, inspect

from harness.scenario.model import Scenario
from mock_llm.config import Upstream
from mock_llm.distributions import Distribution, Empirical, Lognormal
from mock_llm.errors import InputError
from mock_llm.faults import Fault
from mock_llm.loader import convert, load_upstream, read_table
from mock_llm.strict import dotted

KINDS = [node.tag for node in inspect.type_info(Distribution).types[1:]]  # type: ignore[attr-defined]
MODEL = {"prompt_usd_per_m": 1, "completion_usd_per_m": 2}


class Leaf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field of every sort."""

    number: Annotated[float, Meta(gt=0, lt=10)] | None = 1.0
    whole: int = 1
    switch: bool = False
    word: Literal["full", "equal"] | None = None
    status: Literal[500, 503] = 500
    text: str = ""
    optional_text: str | None = ""
    pair: tuple[float, float] = (0.0, 1.0)
    some: Annotated[list[float], Meta(min_length=2, max_length=3)] = msgspec.field(
        default_factory=lambda: [0.0, 0.0]
    )
    code: Annotated[str, Meta(max_length=2)] = ""
    anything: dict[str, Any] = {}


def refused(data: Any, type_: Any) -> str | None:
    """Return the message with which the data are refused, without the file; None: they are not."""
    try:
        convert(data, type_, "x.toml")
    except InputError as error:
        return str(error).removeprefix("x.toml: ")
    return None


def structs(node: inspect.Type, seen: dict[type, list[str]]) -> dict[type, list[str]]:
    """Collect every struct within a type, with its keys."""
    if isinstance(node, inspect.StructType) and node.cls not in seen:
        seen[node.cls] = [field.encode_name for field in node.fields]
        for field in node.fields:
            structs(field.type, seen)
    below: list[inspect.Type] = []
    if isinstance(node, inspect.UnionType):
        below = list(node.types)
    elif isinstance(node, inspect.DictType):
        below = [node.value_type]
    elif isinstance(node, inspect.CollectionType):
        below = [node.item_type]
    for inner in below:
        structs(inner, seen)
    return seen


def misspellings(word: str) -> Iterator[str]:
    """Every way to drop a letter or to swap two neighbours."""
    for i in range(len(word)):
        yield word[:i] + word[i + 1 :]
        yield word[:i] + word[i : i + 2][::-1] + word[i + 2 :]


STRUCTS = structs(inspect.type_info(Scenario), {})
TYPOS = [
    (cls, key, typo)
    for cls, keys in STRUCTS.items()
    for key in keys
    for typo in misspellings(key)
    if typo not in ("", *keys)
]


@given(st.sampled_from(TYPOS))
def test_a_misspelt_key_is_answered_with_the_right_one(typo: tuple[type, str, str]) -> None:
    """One letter dropped or two swapped, in any table there is: the real key is suggested."""
    cls, key, wrong = typo
    assert refused({wrong: 1}, cls) == f"{wrong}: unknown key; did you mean '{key}'?"


def test_the_misspellings_cover_every_table_of_a_scenario() -> None:
    """The collection of structs reached the leaves, or the property above says little."""
    names = {cls.__name__ for cls in STRUCTS}
    assert {"Scenario", "Variant", "Throttle", "Mixture", "Part", "Backoff", "Model"} <= names


@pytest.mark.parametrize("union", [Distribution, Fault])
def test_a_misspelt_kind_is_answered_with_the_right_one(union: Any) -> None:
    """Every kind of distribution and of fault, less its second letter, is recognised."""
    for member in inspect.type_info(union).types:  # type: ignore[attr-defined]
        if isinstance(member, inspect.StructType):
            wrong = str(member.tag)[0] + str(member.tag)[2:]
            expected = f"kind: unknown kind '{wrong}'; did you mean '{member.tag}'?"
            assert refused({"kind": wrong}, union) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"number": "five"}, "number: expected a number or 'none', got the text 'five'"),
        ({"number": True}, "number: expected a number or 'none', got true"),
        ({"number": -5}, "number: must be > 0, got -5"),
        ({"number": 10.0}, "number: must be < 10, got 10.0"),
        ({"number": float("inf")}, "number: must be finite, got inf"),
        ({"number": 10**400}, "number: must be finite, got a huge number"),
        ({"whole": 5.0}, "whole: expected a whole number, got the number 5.0"),
        ({"whole": False}, "whole: expected a whole number, got false"),
        ({"whole": None}, "whole: expected a whole number, got null"),
        ({"whole": "none"}, "whole: expected a whole number, got the text 'none'"),
        ({"switch": 1}, "switch: expected true or false, got the number 1"),
        ({"word": "ful"}, "word: unknown value, the text 'ful'; did you mean 'full'?"),
        (
            {"word": "x"},
            "word: unknown value, the text 'x'; expected 'equal' or 'full' or 'none'",
        ),
        ({"status": "503"}, "status: unknown value, the text '503'; expected 500 or 503"),
        ({"status": 504}, "status: unknown value, the number 504; expected 500 or 503"),
        ({"text": ["a"]}, "text: expected text, got a list"),
        ({"text": "a", "pair": {}}, "pair: expected a list, got a table"),
        ({"pair": [1]}, "pair: expected a list of 2, got a list of 1"),
        ({"pair": [1, "b"]}, "pair[1]: expected a number, got the text 'b'"),
        ({"some": [1]}, "some: must have a length >= 2, got 1"),
        ({"some": [1, 2, 3, 4]}, "some: must have a length <= 3, got 4"),
        ({"code": "abc"}, "code: must have a length <= 2, got 3"),
        ({"anything": {"a": [0, float("nan")]}}, "anything.a[1]: must be finite, got nan"),
        ({"zzz\n": 1}, f'"zzz\\n": unknown key; known: {", ".join(Leaf.__struct_fields__)}'),
        ([], "expected a table, got a list"),
    ],
)
def test_a_bad_value_is_refused_with_its_path(data: Any, message: str) -> None:
    """The message says where the value is, what would be right, and what is there."""
    assert refused(data, Leaf) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"throttle": {"requests_per_min": -5}},
            "throttle.requests_per_min: must be >= 1, got -5",
        ),
        (
            {"models": {"openai/gpt-4o": {**MODEL, "skill": 2}}},
            'models."openai/gpt-4o".skill: must be <= 1, got 2',
        ),
        (
            {"models": {"m": {"prompt_usd_per_m": 1}}},
            "models.m.completion_usd_per_m: missing: expected a number",
        ),
        (
            {"profile": {"ttft": {"p50": 1}}, "faults": {}},
            f"profile.ttft.kind: missing; one of: {', '.join(KINDS)}",
        ),
        ({"profile": {"ttft": {"kind": 3}}}, "profile.ttft.kind: expected text, got the number 3"),
        (
            {"profile": {"ttft": {"kind": "lognormal", "p50": 9, "p99": 1}}},
            "profile.ttft.p99: p99 must be above p50",
        ),
        (
            {
                "profile": {
                    "ttft": {"kind": "mixture", "parts": [{"weight": 1, "dist": {"kind": "gama"}}]}
                }
            },
            "profile.ttft.parts[0].dist.kind: unknown kind 'gama'; did you mean 'gamma'?",
        ),
        (
            {"requests_per_min": 5},
            "requests_per_min: unknown key; did you mean 'throttle.requests_per_min'?",
        ),
    ],
)
def test_a_fault_deep_in_the_upstream_is_located(data: Any, message: str) -> None:
    """Models, kinds and lists appear in the path by their real names and places."""
    assert refused(data, Upstream) == message


def test_none_is_absence_only_where_a_value_may_be_absent() -> None:
    """`none` becomes None in an optional field and stays a word in free text."""
    leaf = convert({"number": "none", "text": "none", "anything": {"a": "none"}}, Leaf, "")
    assert leaf == Leaf(number=None, text="none", anything={"a": "none"})


def test_whole_numbers_are_numbers_and_lists_are_tuples() -> None:
    """TOML's own types are turned into the struct's, whatever member of a union they fit."""
    profile = {"ttft": {"kind": "empirical", "quantiles": [[0, 1], [1, 2]]}, "itl": 1}
    upstream = convert({"profile": profile}, Upstream, "")
    assert upstream.profile.ttft == Empirical(quantiles=((0.0, 1.0), (1.0, 2.0)))
    assert upstream.profile.itl == 1.0


def test_conversion_leaves_the_data_alone() -> None:
    """The caller's tables are unchanged, and changing them later does not reach the struct."""
    data: dict[str, Any] = {"anything": {"a": [1]}, "number": "none"}
    before = json.dumps(data)
    leaf = convert(data, Leaf, "")
    assert json.dumps(data) == before
    data["anything"]["a"].append(2)
    assert leaf.anything == {"a": [1]}


def test_a_struct_survives_the_way_to_plain_data_and_back() -> None:
    """Whatever defaults there are, writing them out changes nothing."""
    upstream = Upstream()
    assert convert(msgspec.to_builtins(upstream), Upstream, "") == upstream


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=3),
        lambda below: st.lists(below) | st.dictionaries(st.text(max_size=3), below),
    )
)
def test_any_data_whatever_is_converted_or_refused_on_one_line(data: Any) -> None:
    """No input gets past the one exception that users see."""
    for key in ("profile", "models", "connection_setup", "throttle", "faults", "keys"):
        message = refused({key: data}, Upstream)
        assert message is None or message.startswith(key)
        assert message is None or message.splitlines() == [message]


def test_a_path_is_written_as_toml_writes_it() -> None:
    """Keys that are not bare are quoted, places in lists are in brackets."""
    assert dotted(("models", "a/é", "parts", 0, "p50")) == 'models."a/é".parts[0].p50'
    assert dotted(("a\u2028b",)) == '"a\\u2028b"'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", b"", "empty: it has no tables"),
        ("a.toml", b"# nothing\n", "empty: it has no tables"),
        ("a.json", b" \n", "empty: it has no tables"),
        ("a.toml", b"[work\xffload]", "not UTF-8 at byte 5; save it as UTF-8"),
        ("a.toml", b"[a]\nb = \n", "line 2, column 5: Invalid value"),
        ("a.toml", b"[a]\nb = [1,", "line 2, column 8: Invalid value"),
        ("a.toml", b"a = " + b"[" * 3000, "nested too deeply"),
        ("a.toml", b"a." * 3000 + b"b = 1", "nested too deeply"),
        ("a.json", b'{"a":\n }', "line 2, column 2: Expecting value"),
        ("a.json", b'{"a": 1, "a": 2}', "key 'a' is there twice"),
        ("a.json", b"[1]", "expected an object at the top"),
    ],
)
def test_an_unusable_file_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """Empty, misencoded and malformed files each get one line with the path."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_file_cut_off_is_located_at_its_end(tmp_path: Path) -> None:
    """Where the parser knows no line, the end of the text is the place."""
    path = tmp_path / "a.toml"
    path.write_text('[a]\nb = """text\n')
    with pytest.raises(InputError, match=r"a\.toml: line 3, column 1: "):
        read_table(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.toml", "no such file"),
        ("", "a directory, not a file"),
        ("n" * 300, "cannot be read: File name too long"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, message: str) -> None:
    """Missing, a directory, or refused by the system: one line with the path."""
    path = tmp_path / name
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert str(caught.value) == f"{path}: {message}"


def test_toml_and_json_give_the_same_table(tmp_path: Path) -> None:
    """The suffix chooses the parser; a byte order mark does no harm."""
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbf[a]\nb = [1, 2.5]\n")
    (tmp_path / "a.JSON").write_text('{"a": {"b": [1, 2.5]}}')
    assert read_table(tmp_path / "a.toml") == read_table(tmp_path / "a.JSON")


def test_only_the_upstream_of_a_scenario_is_loaded(tmp_path: Path) -> None:
    """The mock does not care what stands in the tables of others."""
    path = tmp_path / "a.toml"
    path.write_text(
        "[pipeline]\nnonsense = 1\n"
        '[upstream.profile]\nttft = {kind = "lognormal", p50 = 1, p99 = 9}\n'
    )
    assert load_upstream(path).profile.ttft == Lognormal(p50=1.0, p99=9.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[workload]\n", "missing table [upstream]"),
        ("[upsteam]\n", "missing table [upstream]; is it [upsteam]?"),
        (
            "[upstream]\nreply = 'x'",
            "upstream.reply: unknown value, the text 'x'; expected 'review' or 'text'",
        ),
        ("[upstream.profile]\nttft = nan", "upstream.profile.ttft: must be finite, got nan"),
    ],
)
def test_a_bad_upstream_is_refused(tmp_path: Path, content: str, message: str) -> None:
    """Paths start at the root of the file, not at the table."""
    path = tmp_path / "a.toml"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        load_upstream(path)
    assert str(caught.value) == f"{path}: {message}"
