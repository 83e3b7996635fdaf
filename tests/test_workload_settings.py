"""The `[workload]` table: what fits together, and the line that says what does not."""

import gzip
from pathlib import Path

import pytest

from harness.corpus import read_trace
from harness.errors import InputError
from harness.scenario.arrivals import SpikeArrivals
from harness.scenario.load import load_file

REST = "\n[upstream]\n"
STEADY = "arrivals = { kind = 'poisson', rate_per_s = 4 }\n"


def refusal(folder: Path, text: str) -> str:
    """The one line, without the file's name."""
    path = folder / "mine.toml"
    path.write_text("[workload]\n" + text + REST)
    with pytest.raises(InputError) as caught:
        load_file(path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("think = 3", 'workload.think: think needs kind = "users", not "batch"'),
        ("ramp_s = 3", 'workload.ramp_s: ramp_s needs kind = "users", not "batch"'),
        (
            "requests_per_user = 3",
            'workload.requests_per_user: requests_per_user needs kind = "users", not "batch"',
        ),
        (
            "duration_s = 3",
            'workload.duration_s: duration_s needs kind = "users" or "arrivals", not "batch"',
        ),
        (
            "deadline_s = 3",
            'workload.deadline_s: deadline_s needs kind = "users" or "arrivals", not "batch"',
        ),
        (STEADY, 'workload.arrivals: arrivals needs kind = "arrivals", not "batch"'),
        (
            "kind = 'users'\nduration_s = 3\n" + STEADY,
            'workload.arrivals: arrivals needs kind = "arrivals", not "users"',
        ),
        (
            "kind = 'users'",
            "workload.duration_s: duration_s is missing: users go on for ever without it",
        ),
        (
            "kind = 'users'\nduration_s = 3\nramp_s = 4",
            "workload.ramp_s: ramp_s is longer than the duration_s of 3",
        ),
        (
            "kind = 'arrivals'\nduration_s = 3",
            "workload.arrivals: arrivals are missing: say how they come in [workload.arrivals]",
        ),
        (
            "kind = 'arrivals'\n" + STEADY,
            "workload.duration_s: duration_s is missing: arrivals go on for ever without it",
        ),
        (
            "kind = 'arrivals'\nduration_s = 1e8\n" + STEADY,
            "workload: arrivals: about 400,000,000 of them; 5,000,000 are the most",
        ),
    ],
)
def test_what_does_not_fit_is_told(text: str, said: str, tmp_path: Path) -> None:
    """A key of another kind of work, or one without an end, is refused where it stands."""
    assert refusal(tmp_path, text) == said


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ("{ kind = 'poison', rate_per_s = 4 }", ".kind: unknown kind 'poison'; did you mean 'poi"),
        ("{ kind = 'poisson', rate_per_s = 0 }", ".rate_per_s: must be > 0, got 0"),
        ("{ kind = 'gamma', rate_per_s = 4 }", ".cv: missing: expected a number"),
        ("{ kind = 'ramp', from_per_s = 0, to_per_s = 0 }", ".to_per_s: to_per_s and from_per_s a"),
        ("{ kind = 'step', rates_per_s = [1, 2] }", "at_s: 2 rates need 1 of them"),
        ("{ kind = 'step', rates_per_s = [1, 2, 3], at_s = [9, 3] }", ".at_s: at_s must rise"),
        ("{ kind = 'step', rates_per_s = [0] }", ".rates_per_s: rates_per_s are all 0: nobody"),
        ("{ kind = 'step', rates_per_s = [0, 9], at_s = [70] }", "duration_s ends before anybody"),
        ("{ kind = 'trace' }", ".file: missing: expected text"),
    ],
)
def test_bad_shape_is_told(shape: str, said: str, tmp_path: Path) -> None:
    """What is wrong with a shape is told in a line."""
    text = f"kind = 'arrivals'\nduration_s = 60\narrivals = {shape}"
    assert said in refusal(tmp_path, text)


def test_variant_changes_one_key_of_a_shape(tmp_path: Path) -> None:
    """A variant's table without a kind leaves the other keys, as everywhere."""
    path = tmp_path / "mine.toml"
    path.write_text(
        "[workload]\nkind = 'arrivals'\nduration_s = 60\n[workload.arrivals]\nkind = 'spike'\n"
        "base_per_s = 4\nfactor = 3\nat_s = 20\nfor_s = 10\n[upstream]\n"
        "[variants.flood]\nworkload.arrivals.factor = 9\n"
    )
    found = load_file(path).resolve("flood").workload.arrivals
    assert found == SpikeArrivals(base_per_s=4.0, factor=9.0, at_s=20.0, for_s=10.0)


def test_trace_is_read_in_order_from_its_first(tmp_path: Path) -> None:
    """Times are sorted and counted from the first, and a file beside the scenario is found."""
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"n,t_s\n1,1000.5\n2,1000\n3,1002\n"))
    assert read_trace("t.csv.gz", tmp_path) == [0.0, 0.5, 2.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("t,n\n1,2\n", "t.csv: no column t_s (seconds) among t, n: rename one"),
        ("t_s\n1\nnan\n", "t.csv, line 3: t_s is 'nan', no time in seconds: mend it"),
        ("t_s\nsoon\n", "t.csv, line 2: t_s is 'soon', no time in seconds: mend it"),
        ("t_s\n", "t.csv: has a header and no rows: add some below it"),
    ],
)
def test_bad_trace_is_told(text: str, said: str, tmp_path: Path) -> None:
    """A file without times is refused, and the line says which row it is."""
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_trace("t.csv", tmp_path)
    assert str(caught.value) == f"{tmp_path}/{said}"


def test_absent_trace_is_told(tmp_path: Path) -> None:
    """A file that is nowhere is named with both places."""
    with pytest.raises(InputError, match=r"^trace x\.csv: no such file, nor is there .*x\.csv: c"):
        read_trace("x.csv", tmp_path)
