"""The JSON Schema of scenario files says what the program says."""

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from source_tree import ROOT
from test_documents import blocks

from harness.cli.schema import schema
from harness.errors import InputError
from harness.scenario.load import load_file

FOLDER = ROOT / "scenarios"
FILE = FOLDER / "scenario.schema.json"
SMALL = "[workload]\n[upstream]\n"


def schema_of_file() -> dict[str, Any]:
    """The file that editors read."""
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return found


def complaints(text: str) -> list[str]:
    """What an editor would underline."""
    judge = jsonschema.Draft202012Validator(schema_of_file())
    return [error.json_path for error in judge.iter_errors(tomllib.loads(text))]


def loads(text: str, folder: Path) -> bool:
    """Whether the program takes it."""
    path = folder / "mine.toml"
    path.write_text(text, "utf-8")
    try:
        load_file(path, [])
    except InputError:
        return False
    return True


def test_file_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """The file is what `harness schema` prints today, and it is a schema."""
    assert schema() == 0
    assert capsys.readouterr().out == FILE.read_text("utf-8"), (
        "run: harness schema > scenarios/scenario.schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(schema_of_file())


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_scenarios_are_valid_and_name_it(path: Path) -> None:
    """Editors find the schema by a comment in the first line, and complain of nothing."""
    text = path.read_text("utf-8")
    assert text.splitlines()[0] == f"#:schema ./{FILE.name}"
    assert complaints(text) == []


def test_readmes_scenario_is_valid() -> None:
    """The example to begin with is as the schema wants it."""
    assert complaints(blocks("toml")[0]) == []


@pytest.mark.parametrize(
    "text",
    [
        '[workload]\n[upstream]\nkeep_alive_s = "none"\n[pipeline]\nattempt_timeout_s = "none"',
        SMALL + '[pipeline]\ncontext = "none"\nrouter = { kind = "single", model = "m" }',
        SMALL + "[upstream.profile]\nttft = { p50 = 1, p99 = 2, kind = 'lognormal', cap = 9.5 }",
        SMALL + "[slo]\nlatency_s.p95 = '<= 10'\n'latency_s.p99' = '<20'",
        SMALL + "[upstream.faults]\nx = { kind = 'server_error', rate = 0.1, until_s = 'none' }",
        SMALL + "[upstream.faults]\nx = { kind = 'server_error', rate = 0.1 }\n"
        "[variants.v.upstream.faults.x]\nrate = 0.2\nstatus = 503",
        SMALL + "[variants.v.upstream.throttle]\nrequests_per_min = 7",
        SMALL + "[variants.v.upstream.models.'openai/gpt-4o']\nskill = 0.5",
    ],
)
def test_what_the_program_takes_is_valid(text: str, tmp_path: Path) -> None:
    """An absent limit, a partial table of a variant and a dotted metric are no mistakes."""
    assert (loads(text, tmp_path), complaints(text)) == (True, [])


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[upstream]", "$"),
        (SMALL + "[pipelin]", "$"),
        (SMALL + "[pipeline]\nconcurency = 5", "$.pipeline"),
        (SMALL + "[pipeline]\nconcurrency = 0", "$.pipeline.concurrency"),
        (SMALL + "[pipeline]\nconcurrency = 'none'", "$.pipeline.concurrency"),
        (SMALL + "[pipeline]\ncontext = 'trimm'", "$.pipeline.context"),
        (SMALL + "keep_alive_s = -1", "$.upstream.keep_alive_s"),
        (SMALL + "profile.ttft = { kind = 'lognormall', p50 = 1 }", "$.upstream.profile.ttft"),
        (SMALL + "[upstream.profile]\nttft = 'fast'", "$.upstream.profile.ttft"),
        (SMALL + "[upstream.faults]\nx = { kind = 'server_error' }", "$.upstream.faults.x"),
        (SMALL + "[upstream.faults]\nx = { kind = 'hang', rate = 0.1 }", "$.upstream.faults.x"),
        (SMALL + "[slo]\n'latency_s.p95' = 10", "$.slo['latency_s.p95']"),
        (SMALL + "[slo]\nduration_s = 'at most 600'", "$.slo.duration_s"),
        (SMALL + "[slo]\nduration = '<= 600'", "$.slo.duration"),
        (SMALL + "[variants.v]\nexpect = 'failure'", "$.variants.v.expect"),
        (SMALL + "[variants.v.pipeline]\nretry = 1", "$.variants.v.pipeline"),
        (
            SMALL + "[variants.v.upstream.faults]\nx = { kind = 'server_error' }",
            "$.variants.v.upstream.faults.x",
        ),
    ],
)
def test_mistake_is_underlined_where_it_is(text: str, where: str, tmp_path: Path) -> None:
    """What the program refuses is invalid at the same place."""
    assert (loads(text, tmp_path), complaints(text)) == (False, [where])


def test_keys_have_help() -> None:
    """An editor shows the docstrings' words, in the words of TOML."""
    parts = schema_of_file()["$defs"]
    limit = parts["Pipeline"]["properties"]["attempt_timeout_s"]["description"]
    assert limit == 'limit on one attempt; "none" waits for ever.'
    assert parts["ServerError"]["properties"]["rate"]["description"].startswith("share of the")
    assert parts["IdleRace"]["description"].startswith("A pooled connection is closed in the very")
