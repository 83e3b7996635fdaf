"""The gate: what counts as worse, and the command that says so."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.main import main
from harness.experiments import reports
from harness.experiments.gate import (
    Baseline,
    Figures,
    State,
    Tolerances,
    judge,
    read_baselines,
    write_baseline,
)

BEFORE = Figures(
    throughput_per_s=4.0,
    timeout_rate=0.01,
    latency_s_p95=2.0,
    cost_usd=0.5,
    ok=990,
    requests=1000,
    slo_passed=True,
    records_sha256="a" * 64,
)

JUDGED: list[tuple[str, Any, State]] = [
    ("throughput_per_s", 4.0, "same"),
    ("throughput_per_s", 3.97, "changed"),
    ("throughput_per_s", 3.96, "changed"),  # -1 %, the bound itself
    ("throughput_per_s", 3.9599, "worse"),
    ("throughput_per_s", 0.0, "worse"),
    ("throughput_per_s", 4.04, "changed"),
    ("throughput_per_s", 4.05, "better"),
    ("timeout_rate", 0.011, "changed"),  # +.1 pp
    ("timeout_rate", 0.01101, "worse"),
    ("timeout_rate", 0.0, "better"),
    ("latency_s_p95", 2.04, "changed"),  # +2 %
    ("latency_s_p95", 2.0401, "worse"),
    ("latency_s_p95", 1.9, "better"),
    ("cost_usd", 0.505, "changed"),  # +1 %
    ("cost_usd", 0.50501, "worse"),
    ("cost_usd", 0.49, "better"),
    ("ok", 989, "changed"),  # what is allowed of time-outs
    ("ok", 988, "worse"),
    ("ok", 992, "better"),
    ("requests", 1001, "changed"),
    ("slo_passed", False, "worse"),
    ("records_sha256", "b" * 64, "changed"),
]


def _states(before: Figures, now: Figures) -> dict[str, State]:
    return {check.figure: check.state for check in judge("b", "v", before, now, Tolerances())}


@pytest.mark.parametrize(("figure", "now", "state"), JUDGED)
def test_a_figure_is_worse_just_past_its_bound(figure: str, now: Any, state: State) -> None:
    """At the bound all is well, past it is not, and no figure speaks for another."""
    found = _states(BEFORE, msgspec.structs.replace(BEFORE, **{figure: now}))
    assert found == {**dict.fromkeys(Figures.__struct_fields__, "same"), figure: state}


@pytest.mark.parametrize(
    ("figure", "state"),
    [
        ("throughput_per_s", "better"),
        ("timeout_rate", "worse"),
        ("latency_s_p95", "worse"),
        ("cost_usd", "worse"),
    ],
)
def test_anything_is_more_than_nothing(figure: str, state: State) -> None:
    """Against a baseline of 0 a rise is a rise, and 0 is the same."""
    nothing = msgspec.structs.replace(BEFORE, **{figure: 0.0})
    assert _states(nothing, BEFORE)[figure] == state
    assert _states(nothing, nothing)[figure] == "same"


def test_a_promise_kept_again_is_better() -> None:
    """A broken promise in the baseline is no licence, and keeping it is progress."""
    broken = msgspec.structs.replace(BEFORE, slo_passed=False)
    assert _states(broken, BEFORE)["slo_passed"] == "better"
    assert _states(broken, broken)["slo_passed"] == "same"


@given(st.floats(0.1, 1e3), st.floats(0.1, 1e3), st.floats(0, 1))
def test_worse_one_way_is_not_worse_the_other(one: float, other: float, limit: float) -> None:
    """Of two runs at most one is worse than the other, whatever the tolerance."""
    allowed = Tolerances(cost=limit)
    runs = [msgspec.structs.replace(BEFORE, cost_usd=usd) for usd in (one, other)]
    states = [
        next(c.state for c in judge("b", "v", was, now, allowed) if c.figure == "cost_usd")
        for was, now in (runs, runs[::-1])
    ]
    assert states.count("worse") <= 1
    assert one == other or states.count("same") < 2 or one == pytest.approx(other)


def test_a_baseline_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """What is committed is what is compared, tolerances and settings included."""
    baseline = Baseline(
        scenario="s.toml",
        seed=7,
        settings=("workload.reviews=5",),
        tolerances=Tolerances(cost=0.5),
        variants={"v": BEFORE},
    )
    write_baseline(baseline, tmp_path / "new" / "s.json")
    assert read_baselines(tmp_path / "new") == {"s": baseline}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["s.json"]


SCENARIO = """
seed = 1
[workload]
reviews = 50
corpus = "synthetic:electronics"
users = 10
[upstream.profile]
ttft = { kind = "lognormal", mean = 1.19, sigma = 0.65 }
[slo]
duration_s = "<= 30"
[variants.fast]
[variants.slow]
expect = "fail"
pipeline = { concurrency = 1 }
"""


class Gate:
    """`harness gate` in a folder with one small scenario."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.folder = folder
        self.file = folder / "results" / "baselines" / "tiny.json"
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.chdir(folder)
        monkeypatch.setenv("COLUMNS", "200")
        (folder / "tiny.toml").write_text(SCENARIO)

    def __call__(self, *options: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        self._monkeypatch.setattr("sys.argv", ["harness", "gate", *options])
        with pytest.raises(SystemExit) as end:
            main()
        said = self._capsys.readouterr()
        return int(str(end.value.code)), said.out, said.err

    def change(self, **changes: Any) -> None:
        """Edit the figures of the baseline's variant `fast`."""
        known = json.loads(self.file.read_text())
        known["variants"]["fast"].update(changes)
        self.file.write_text(json.dumps(known))


@pytest.fixture
def gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Gate:
    """A gate without a baseline."""
    return Gate(tmp_path, monkeypatch, capsys)


@pytest.fixture
def guarded(gate: Gate) -> Gate:
    """A gate with a fresh baseline."""
    code, out, _ = gate("--update", "--scenario", "tiny.toml")
    assert (code, out) == (0, "results/baselines/tiny.json: 2 variants\n")
    return gate


def test_a_fresh_baseline_passes_at_once(guarded: Gate) -> None:
    """What was just written down is found again to the byte."""
    code, out, err = guarded()
    expected = "tiny: fast done\ntiny: slow done\ngate: 16 figures the same, 0 changed or better, "
    assert (code, out, err) == (0, f"{expected}0 worse\n", "")


def test_a_change_under_trial_that_is_worse_fails(guarded: Gate) -> None:
    """Fewer slots are slower, and the table names figure, before and now."""
    code, out, _ = guarded("--set", "pipeline.concurrency=2")
    assert code == 1
    (row,) = [line for line in out.splitlines() if "fast" in line and "throughput_per_s" in line]
    assert "worse" in row


def test_the_table_fits_a_narrow_terminal(guarded: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns every figure has its whole name."""
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = guarded("--set", "pipeline.concurrency=2")
    assert "throughput_per_s" in out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_better_run_is_reported_and_passes(guarded: Gate) -> None:
    """More slots are faster, which is no reason to fail."""
    code, out, _ = guarded("--set", "pipeline.concurrency=8")
    assert code == 0
    assert "better" in out
    assert out.endswith(" 0 worse\n")


def test_other_bytes_with_figures_in_tolerance_pass(guarded: Gate) -> None:
    """Records may change where no guarded figure is worse, and the gate says that they did."""
    guarded.change(records_sha256="f" * 64)
    code, out, _ = guarded()
    assert code == 0
    assert "ffffffffffff" in out
    assert "gate: 15 figures the same, 1 changed or better, 0 worse" in out


def test_a_worse_figure_fails_by_itself(guarded: Gate) -> None:
    """One request fewer than in the baseline is enough."""
    guarded.change(ok=51)
    assert guarded()[0] == 1


def test_tolerances_are_the_baselines_own(guarded: Gate) -> None:
    """A baseline that allows more lets more pass."""
    known = json.loads(guarded.file.read_text())
    known["tolerances"].update(throughput=0.9, cost=0.9)
    guarded.file.write_text(json.dumps(known))
    code, _, _ = guarded("--set", "pipeline.concurrency=2", "--set", "slo.duration_s=<= 3000")
    assert code == 0


def test_a_broken_invariant_fails(guarded: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that lost a request is no run, however good its figures, and the reason is told."""
    monkeypatch.setattr(reports, "violations", lambda *_, **__: ["7 requests lost, first [r3]"])
    code, out, _ = guarded()
    assert code == 1
    assert "invariant: 7 requests lost, first [r3]" in out
    assert "broken" in out


def test_an_invalid_run_makes_no_baseline(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is held to a run that says nothing, and no file is left."""
    monkeypatch.setattr(reports, "violations", lambda *_, **__: ["7 requests lost"])
    code, _, err = gate("--update", "--scenario", "tiny.toml")
    assert code == 2
    assert err == "harness: tiny.toml, fast: invariant: 7 requests lost: not a baseline\n"
    assert not gate.file.exists()


def test_an_update_keeps_seed_settings_and_tolerances(guarded: Gate) -> None:
    """Only the figures are new: those of the baseline's own seed, so that the gate then passes."""
    known = json.loads(guarded.file.read_text())
    old = known["variants"]["fast"]["records_sha256"]
    known["seed"] = 5
    guarded.file.write_text(json.dumps(known))
    assert guarded("--update")[0] == 0
    known = json.loads(guarded.file.read_text())
    assert known["variants"]["fast"]["records_sha256"] != old
    known.update(settings=["workload.reviews=40"], tolerances={"cost": 0.3})
    guarded.file.write_text(json.dumps(known))
    assert guarded("--update")[0] == 0
    after = json.loads(guarded.file.read_text())
    assert (after["seed"], after["settings"]) == (5, ["workload.reviews=40"])
    assert after["tolerances"]["cost"] == 0.3
    assert after["variants"]["fast"]["requests"] == 40
    assert guarded()[0] == 0


def test_an_update_takes_the_scenarios_own_variants(guarded: Gate) -> None:
    """New variants come in and dropped ones go out."""
    text = SCENARIO.replace("variants.slow", "variants.slower")
    (guarded.folder / "tiny.toml").write_text(text)
    assert guarded("--update")[0] == 0
    assert list(json.loads(guarded.file.read_text())["variants"]) == ["fast", "slower"]


BAD_FILES = [
    ("tiny.json", "{", "not a baseline"),
    ("tiny.json", "[]", "not a baseline"),
    ("tiny.json", '{"scenario": "tiny.toml", "extra": 1}', "not a baseline"),
    ("tiny.json", '{"scenario": "tiny.toml"}', "without figures"),
    ("tiny.json", '{"scenario": "none.toml", "variants": {"fast": %s}}', "no such file"),
    ("tiny.json", '{"scenario": "tiny.toml", "variants": {"gone": %s}}', "unknown variant"),
    ("tiny.txt", "", "no baselines there"),
]


@pytest.mark.parametrize(("name", "text", "what"), BAD_FILES)
def test_a_bad_baseline_is_one_line_and_exit_2(gate: Gate, name: str, text: str, what: str) -> None:
    """What is wrong is said where it is, before anything is run."""
    gate.file.parent.mkdir(parents=True)
    figures = json.dumps(msgspec.to_builtins(BEFORE))
    gate.file.with_name(name).write_text(text.replace("%s", figures))
    code, out, err = gate()
    assert (code, out) == (2, "")
    assert what in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("folder", ["missing", "empty", "tiny.toml"])
def test_a_folder_without_baselines_is_one_line_and_exit_2(gate: Gate, folder: str) -> None:
    """The line says how to make one."""
    (gate.folder / "empty").mkdir()
    code, _, err = gate("--baseline", folder)
    expected = f"harness: {folder}: no baselines there; make them with `harness gate --update`\n"
    assert (code, err) == (2, expected)


def test_an_update_does_not_overwrite_what_it_cannot_read(guarded: Gate) -> None:
    """A broken baseline is the user's to mend: seed and tolerances are in it."""
    guarded.file.write_text("{")
    code, _, err = guarded("--update", "--scenario", "tiny.toml")
    assert (code, guarded.file.read_text()) == (2, "{")
    assert "not a baseline" in err


def test_a_change_under_trial_is_no_baseline(guarded: Gate) -> None:
    """--update with --set is refused and the baseline stays as it is."""
    before = guarded.file.read_bytes()
    code, _, err = guarded("--update", "--set", "pipeline.concurrency=2")
    assert code == 2
    assert err == "harness: --update with --set: a change under trial is no baseline\n"
    assert guarded.file.read_bytes() == before


@pytest.mark.parametrize("setting", ["pipeline.concurency=2", "pipeline.concurrency=-1", "x"])
def test_a_bad_setting_is_one_line_and_exit_2(guarded: Gate, setting: str) -> None:
    """A typing error in a trial is no regression."""
    code, out, err = guarded("--set", setting)
    assert (code, out) == (2, "")
    assert f"--set {setting}" in err
    assert err.count("\n") == 1
