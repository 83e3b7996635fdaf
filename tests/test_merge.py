"""Laws of laying tables on tables."""

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness.scenario.merge import assign, fit, merge

TABLES = st.recursive(
    st.integers() | st.text(max_size=2),
    lambda below: st.dictionaries(st.sampled_from(["a", "b", "kind"]), below, max_size=3),
).filter(lambda value: isinstance(value, dict))
PLAIN = TABLES.filter(lambda table: "kind" not in json.dumps(table))


@given(TABLES)
def test_merging_nothing_changes_nothing(table: dict[str, Any]) -> None:
    """The empty table is the identity on both sides."""
    assert merge(table, {}) == table
    assert merge({}, table) == table


@given(TABLES, TABLES)
def test_the_override_wins_and_the_inputs_stay(base: dict[str, Any], over: dict[str, Any]) -> None:
    """Merging once more changes nothing, and neither table is touched."""
    copies = copy.deepcopy((base, over))
    merged = merge(base, over)
    assert merge(merged, over) == merged
    assert (base, over) == copies


@given(PLAIN, PLAIN, PLAIN)
def test_merging_is_associative_without_kinds(
    one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]
) -> None:
    """A chain of parents may be merged from either end, if each level is a table or none is."""
    flat_one, flat_two, flat_three = ({"x": {**t, "a": 1, "b": 2}} for t in (one, two, three))
    left = merge(merge(flat_one, flat_two), flat_three)
    assert left == merge(flat_one, merge(flat_two, flat_three))


@given(TABLES, TABLES)
def test_a_kind_replaces_the_table_below(base: dict[str, Any], over: dict[str, Any]) -> None:
    """Nothing of the old table is left under one that names its kind."""
    named = {**over, "kind": "gamma"}
    assert merge({"x": base, "y": 1}, {"x": named}) == {"x": named, "y": 1}


@given(TABLES, st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4))
def test_an_assignment_is_found_again_and_leaves_its_input(
    table: dict[str, Any], path: list[str]
) -> None:
    """Whatever stood at the path or on the way to it gives room."""
    before = copy.deepcopy(table)
    found: Any = assign(table, path, "new")
    for key in path:
        found = found[key]
    assert found == "new"
    assert table == before


def test_parts_are_joined_only_where_they_name_a_key() -> None:
    """The longest join that exists wins; an unknown path stays as it is."""
    table = {"models": {"gpt-3.5": {"skill": 1}, "gpt-3": {}}}
    assert fit(table, ("models", "gpt-3", "5", "skill")) == ("models", "gpt-3.5", "skill")
    assert fit(table, ("models", "gpt-3", "skill")) == ("models", "gpt-3", "skill")
    assert fit(table, ("model", "gpt-3", "5")) == ("model", "gpt-3", "5")
