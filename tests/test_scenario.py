"""A scenario file is merged with its variants and `--set`, and checked as a whole at load."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.errors import InputError
from harness.scenario.load import ScenarioFile, load_file, load_scenario, variant_names
from harness.scenario.model import Variant
from harness.scenario.pipeline import Single, Smart
from harness.scenario.settings import parse_setting
from mock_llm.config import default_models
from mock_llm.distributions import Lognormal

TEXT = """
about = "none"

[workload]
reviews = 100

[upstream.profile]
ttft = { kind = "lognormal", p50 = 1, p99 = 9 }

[slo]
latency_s.p95 = "<= 10"

[variants.before]
expect = "fail"
pipeline.concurrency = 1
pipeline.attempt_timeout_s = "none"

[variants.after]
like = "before"
pipeline.concurrency = 7
upstream.profile.ttft.p99 = 12
upstream.models."openai/gpt-4o".skill = 0.5
slo.latency_s.p95 = "<= 5"
slo.ok = "== 100"
"""
A_BOUND = "one of <= >= < > == and a number, such as '<= 600'"
MINIMAL = "[workload]\n[upstream]\n"


def saved(folder: Path, text: str) -> Path:
    """Write a scenario file."""
    path = folder / "crisis.toml"
    path.write_text(text)
    return path


@pytest.fixture
def file(tmp_path: Path) -> ScenarioFile:
    """Return the example, loaded."""
    return load_file(saved(tmp_path, TEXT))


def refusal(path: Path, *overrides: str, selected: str | None = None) -> str:
    """Return the one line with which a file or a setting is refused."""
    with pytest.raises(InputError) as caught:
        load_file(path, overrides, selected)
    message = str(caught.value)
    assert message.splitlines() == [message]
    return message


def test_the_base_is_the_file_and_its_name_the_stem(tmp_path: Path) -> None:
    """Without a variant the file is read as it stands; free text keeps the word none."""
    scenario = load_scenario(saved(tmp_path, TEXT))
    assert (scenario.name, scenario.about, scenario.workload.reviews) == ("crisis", "none", 100)
    assert scenario.pipeline.concurrency == 5
    assert scenario.slo == {"latency_s.p95": "<= 10"}


def test_a_variant_overrides_key_by_key(file: ScenarioFile) -> None:
    """What it does not name stays: its parent's, else the file's, else the default."""
    after = file.resolve("after")
    assert after.pipeline.concurrency == 7
    assert after.pipeline.attempt_timeout_s is None
    assert after.upstream.profile.ttft == Lognormal(p50=1.0, p99=12.0)
    assert after.slo == {"latency_s.p95": "<= 5", "ok": "== 100"}


def test_a_variant_changes_one_model_of_the_default_ones(file: ScenarioFile) -> None:
    """Defaults that the file leaves out can be overridden in part."""
    models = default_models()
    changed = msgspec.structs.replace(models["openai/gpt-4o"], skill=0.5)
    assert file.resolve("after").upstream.models == {**models, "openai/gpt-4o": changed}


def test_a_parent_is_not_changed_by_its_child(file: ScenarioFile) -> None:
    """Resolving one variant leaves the others and the base as they were."""
    before = file.resolve("before")
    file.resolve("after")
    assert (file.resolve("before"), file.resolve()) == (before, file.written)
    assert (before.pipeline.concurrency, before.pipeline.attempt_timeout_s) == (1, None)


def test_a_table_that_names_its_kind_replaces_the_whole(tmp_path: Path) -> None:
    """The parameters of one router are not handed to another."""
    text = '[pipeline.router]\nkind = "smart"\nshares = {a = 1}\n'
    other = '[variants.one.pipeline.router]\nkind = "single"\nmodel = "m"\n'
    file = load_file(saved(tmp_path, MINIMAL + text + other))
    assert file.resolve().pipeline.router == Smart(shares={"a": 1.0})
    assert file.resolve("one").pipeline.router == Single(model="m")


def test_variants_are_declared_in_the_file_and_the_base_is_plain(file: ScenarioFile) -> None:
    """What a variant promises is its own: a child does not inherit the expectation to fail."""
    assert [file.variant(name).expect for name in ("before", "after", "base")] == [
        "fail",
        "pass",
        "pass",
    ]
    assert file.variant("base") == Variant()


def test_names_follow_the_file(file: ScenarioFile, tmp_path: Path) -> None:
    """All means the named variants in file order, or the base where none is named."""
    assert file.names() == ["before", "after"]
    assert file.names("all") == ["before", "after"]
    assert file.names("after") == ["after"]
    assert file.names("base") == ["base"]
    assert variant_names(load_scenario(saved(tmp_path, MINIMAL))) == ["base"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("aftr", "crisis: unknown variant 'aftr'; did you mean 'after'?"),
        ("xyz", "crisis: unknown variant 'xyz'; known: base, before, after"),
    ],
)
def test_an_unknown_variant_is_refused(file: ScenarioFile, name: str, message: str) -> None:
    """Wherever it is asked for, the right names are told."""
    for ask in (file.names, file.resolve, file.variant):
        with pytest.raises(InputError) as caught:
            ask(name)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[upstream]\n", "missing table [workload]"),
        ("[workload]\n", "missing table [upstream]"),
        ("[workload]\n[upsteam]\n", "upsteam: unknown key; did you mean 'upstream'?"),
        (
            MINIMAL + "[pipeline]\nconcurency = 5",
            "pipeline.concurency: unknown key; did you mean 'concurrency'?",
        ),
        (
            "retires = 5\n" + MINIMAL,
            "retires: unknown key; did you mean 'pipeline.retries'?",
        ),
        (
            MINIMAL + "[upstream.throttle]\nrequests_per_min = -5",
            "upstream.throttle.requests_per_min: must be >= 1, got -5",
        ),
        (
            MINIMAL + "[upstream.profile]\nttft = {kind = 'lognorml'}",
            "upstream.profile.ttft.kind: unknown kind 'lognorml'; did you mean 'lognormal'?",
        ),
        (
            MINIMAL + "[pipeline]\nretries = 'five'",
            "pipeline.retries: expected a whole number, got the text 'five'",
        ),
        (
            MINIMAL + "[pipeline]\nbarrier = true\nbatch_size = 'none'",
            "pipeline.barrier: barrier = true needs a batch_size",
        ),
        ("name = '../x'\n" + MINIMAL, "name: '../x' cannot name a folder"),
        (MINIMAL + "[variants.'a/b']", 'variants."a/b": this cannot name a folder'),
        (MINIMAL + "[variants.all]", "variants.all: 'all' is reserved; choose another name"),
        (
            MINIMAL + "[variants.a]\nlike = 'a'",
            "variants.a.like: goes in a circle: a -> a",
        ),
        (
            MINIMAL
            + "[variants.a]\nlike = 'b'\n[variants.b]\nlike = 'c'\n[variants.c]\nlike = 'b'",
            "variants.b.like: goes in a circle: b -> c -> b",
        ),
        (
            MINIMAL + "[variants.a]\nlike = 'befor'\n[variants.before]",
            "variants.a.like: unknown variant 'befor'; did you mean 'before'?",
        ),
        (
            MINIMAL + "[variants.a]\nexpcet = 'fail'",
            "variants.a.expcet: unknown key; did you mean 'expect'?",
        ),
        (
            MINIMAL + "[variants.a.pipeline]\nretries = inf",
            "variants.a.pipeline.retries: must be finite, got inf",
        ),
        (
            MINIMAL + "[variants.a.pipeline]\nretries = -1",
            "variants.a.pipeline.retries: must be >= 0, got -1",
        ),
        (
            MINIMAL + "[variants.kid]\nlike = 'dad'\n[variants.dad.pipeline]\nconcurency = 1",
            "variants.dad.pipeline.concurency: unknown key; did you mean 'concurrency'?",
        ),
        (
            MINIMAL + "[variants.a.pipeline]\nbarrier = true\nbatch_size = 'none'",
            "variants.a.pipeline.barrier: barrier = true needs a batch_size",
        ),
        (
            MINIMAL + "[slo]\nlatency_s.p9 = '<= 1'",
            "slo.\"latency_s.p9\": unknown metric; did you mean 'latency_s.p99'?",
        ),
        (MINIMAL + "[slo]\nok = 5", "slo.ok: expected text, got the number 5"),
        (
            MINIMAL + "[variants.a.slo]\nok = '=> 5'",
            f"variants.a.slo.ok: expected {A_BOUND}, got '=> 5'",
        ),
    ],
)
def test_a_bad_scenario_is_refused_with_the_path(tmp_path: Path, text: str, message: str) -> None:
    """The base and every variant are checked before anything runs, in one line each."""
    path = saved(tmp_path, text)
    assert refusal(path) == f"{path}: {message}"


def test_settings_win_over_variants_and_the_last_over_the_first(tmp_path: Path) -> None:
    """`--set` is applied after everything else, in order, to the base and to every variant."""
    settings = ["pipeline.concurrency=9", "workload.reviews=7", "workload.reviews=8"]
    file = load_file(saved(tmp_path, TEXT), settings)
    resolved = [file.resolve(name) for name in ("base", "before", "after")]
    assert [s.pipeline.concurrency for s in resolved] == [9, 9, 9]
    assert [s.workload.reviews for s in resolved] == [8, 8, 8]


@pytest.mark.parametrize("model", ["openai/gpt-4o", "openai/gpt-3.5-turbo"])
@pytest.mark.parametrize("quote", ['"', "'", ""])
def test_a_model_is_set_with_its_quotes_or_without(tmp_path: Path, model: str, quote: str) -> None:
    """A shell that eats the quotes does no harm, and .9 is a number."""
    setting = f"upstream.models.{quote}{model}{quote}.skill=.9"
    scenario = load_scenario(saved(tmp_path, TEXT), [setting])
    assert scenario.upstream.models[model].skill == 0.9


def test_a_kind_that_is_set_drops_what_only_the_old_kind_had(tmp_path: Path) -> None:
    """A router is replaced; the workload, whose kind governs nothing, keeps its other keys."""
    settings = ["pipeline.router.kind=single", "pipeline.router.model=m"]
    settings += ["workload.kind=users", "workload.duration_s=9"]
    scenario = load_scenario(saved(tmp_path, TEXT), settings)
    assert scenario.pipeline.router == Single(model="m")
    assert (scenario.workload.kind, scenario.workload.reviews) == ("users", 100)


def test_a_promise_is_set_by_its_dotted_metric(tmp_path: Path) -> None:
    """The metric's own dot needs no quotes."""
    scenario = load_scenario(saved(tmp_path, TEXT), ["slo.latency_s.p95=<= 3"])
    assert scenario.slo == {"latency_s.p95": "<= 3"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("pipeline.concurency=5", "unknown key; did you mean 'concurrency'?"),
        ("concurrency=5", "unknown key; did you mean 'pipeline.concurrency'?"),
        ("pipelin.concurrency=5", "pipelin: unknown key; did you mean 'pipeline'?"),
        ("pipeline.concurrency=five", "expected a whole number, got the text 'five'"),
        (
            "pipeline.concurrency.x=5",
            "pipeline.concurrency: expected a whole number, got a table",
        ),
        ("upstream.throttle.requests_per_min=-5", "must be >= 1, got -5"),
        ("pipeline.attempt_timeout_s=inf", "must be finite, got inf"),
        ("pipeline.router.kind=singel", "unknown kind 'singel'; did you mean 'single'?"),
        (
            "pipeline.batch_size='none'",
            "pipeline.barrier: barrier = true needs a batch_size",
        ),
        ("slo.latency_s.p94='< 1'", "unknown metric; did you mean 'latency_s.p99'?"),
        ("pipeline.concurrency", "no '='; expected dotted.key=value"),
        ("=5", "expected dotted.key=value, with a name between dots"),
        ("pipeline.=5", "expected dotted.key=value, with a name between dots"),
        (".retries=5", "expected dotted.key=value, with a name between dots"),
        ("a." * 99 + "b=5", "expected dotted.key=value, with a name between dots"),
        (
            "variants.after.pipeline.retries=5",
            "set the key itself; it changes every variant alike",
        ),
    ],
)
def test_a_bad_setting_is_refused_by_name(tmp_path: Path, setting: str, message: str) -> None:
    """The option is quoted as typed, with the right name or the reason, on one line."""
    text = MINIMAL + "[pipeline]\nbarrier = true\n"
    assert refusal(saved(tmp_path, text), setting) == f"--set {setting}: {message}"


def test_the_setting_at_fault_is_named_among_many(tmp_path: Path) -> None:
    """Only the one whose key the culprit is, whatever comes after it."""
    path = saved(tmp_path, TEXT)
    settings = ("pipeline.retries=1", "pipeline.pool=5", "workload.users=2")
    message = refusal(path, *settings, selected="base")
    assert message == "--set pipeline.pool=5: expected true or false, got the number 5"


def test_a_setting_is_judged_in_the_variants_that_will_run(tmp_path: Path) -> None:
    """What clashes with one variant is told with its name, and only if that one is wanted."""
    path = saved(tmp_path, TEXT)
    setting = "pipeline.slot=inside_timeout"
    assert refusal(path, setting) == (
        f"--set {setting}: slot = 'inside_timeout' needs an attempt_timeout_s (in variant 'before')"
    )
    assert load_file(path, [setting], "base").resolve().pipeline.slot == "inside_timeout"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-.5", -0.5),
        ("1e3", 1000.0),
        ("true", True),
        ("none", "none"),
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("'5'", "5"),
        ("", ""),
        ("a=b", "a=b"),
        ("2026-11-23", "2026-11-23"),
        ("[.5, 1]", [0.5, 1]),
        ("{kind = 'single', model = \"m\"}", {"kind": "single", "model": "m"}),
        ("5\nother = 6", "5\nother = 6"),
    ],
)
def test_the_value_of_a_setting_is_toml_or_else_text(text: str, value: Any) -> None:
    """Numbers, switches, lists and tables are themselves; anything else is a word."""
    setting = parse_setting(f" workload . corpus = {text} ")
    assert (setting.path, setting.value) == (("workload", "corpus"), value)
    assert type(setting.value) is type(value)
