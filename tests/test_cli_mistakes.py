"""What a user can do wrong: one line that says where and what to do, exit code 2, no traces."""

from pathlib import Path

import pytest
from commands import Harness, files, in_folder

ONE = ("run", "small.toml", "--variant", "kept")


@pytest.fixture
def harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Harness:
    """`harness ...` in a folder with `small.toml`."""
    return in_folder(tmp_path, monkeypatch, capsys)


# File name -> what is in it, and what is said of it.
SCENARIOS: dict[str, tuple[str | bytes, str]] = {
    "type.toml": (
        '[workload]\nreviews = "many"\n[upstream]\n',
        "type.toml: workload.reviews: expected a whole number",
    ),
    "key.toml": (
        "[workload]\nreviws = 3\n[upstream]\n",
        "key.toml: workload.reviws: unknown key; did you mean 'reviews'?",
    ),
    "rate.toml": (
        '[workload]\n[upstream.faults]\nh={kind="hang_before_headers",rate=-1}\n',
        "rate.toml: upstream.faults.h.rate: must be >= 0",
    ),
    "law.toml": (
        '[workload]\n[upstream.profile]\nttft={kind="zipf",a=2}\n',
        "law.toml: upstream.profile.ttft.kind: unknown kind 'zipf'",
    ),
    "empty.toml": ("", "empty.toml: empty"),
    "latin.toml": (b'name = "caf\xe9"\n', "latin.toml: not UTF-8 at byte 11"),
    "syntax.toml": ("[workload\n", "syntax.toml: line 1"),
    "alone.toml": ("[workload]\n", "alone.toml: missing table [upstream]"),
    "users.toml": (
        '[workload]\nkind = "users"\n[upstream]\n',
        "users.toml: workload.duration_s: duration_s is missing",
    ),
}
CORPORA: dict[str, tuple[str | bytes, str]] = {
    "empty.csv": ("", "empty.csv: is empty"),
    "columns.csv": ("a,b\n1,2\n", "columns.csv: no column holds the text (the columns are a, b)"),
    "blank.csv": ("id,content\n1,\n", "blank.csv: no row has text in column content"),
    "latin.csv": (b"content\ncaf\xe9\n", "latin.csv, line 2: not UTF-8"),
    "plain.csv.gz": ("content\nA fine thing.\n", "plain.csv.gz: is not gzip"),
    "broken.csv.gz": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03K", "broken.csv.gz: broken gzip"),
    "table.xlsx": ("content\nA fine thing.\n", "table.xlsx"),
}
BAD = [
    *((("run", name), said) for name, (_, said) in SCENARIOS.items()),
    *(((*ONE, "--corpus", name), said) for name, (_, said) in CORPORA.items()),
    (("run", "gone.toml"), "gone.toml: no such file"),
    (("run", "."), "a directory"),
    ((*ONE, "--corpus", "gone.csv"), "corpus gone.csv: no such file"),
    ((*ONE, "--corpus", "synthetic:zebras"), "no such category"),
    ((*ONE, "--corpus", "."), "is a directory"),
    ((*ONE, "--corpus", "two\nlines.csv"), "corpus two lines.csv: no such file"),
    (("run", "small.toml", "--variant", "kep"), "unknown variant 'kep'"),
    ((*ONE, "--engine", "warp"), "--engine warp: there is no such engine"),
    ((*ONE, "--frobnicate"), "No such option: --frobnicate"),
    (("run",), "Missing argument 'SCENARIO'"),
    (("runs", "small.toml"), "No such command 'runs'"),
    ((*ONE, "more"), "unexpected extra argument"),
    *(((*ONE, "--seeds", text), f"--seeds {text}") for text in ("5", "a-b", "5-3", "1-2-3", "²-3")),
    ((*ONE, "--seeds", "1-99999999"), "10,000 are the most"),
    ((*ONE, "--seeds", "1-2", "--seed", "3"), "without --seed"),
    ((*ONE, "--seed", "x"), "--seed"),
    ((*ONE, "--set", "pipeline.pool"), "--set pipeline.pool: no '='"),
    ((*ONE, "--set", "pipeline.pol=true"), "--set pipeline.pol=true: unknown key"),
    ((*ONE, "--set", "pipeline.concurrency=0"), "must be >= 1"),
    ((*ONE, "--json", "gone/x.json"), "there is no folder gone"),
    ((*ONE, "--json", "."), "names no file"),
    ((*ONE, "--json", ""), "names no file"),
    ((*ONE, "--json", "small.toml/x.json"), "small.toml is no folder"),
    ((*ONE, "--out", "small.toml"), "--out small.toml: small.toml is no folder"),
    ((*ONE, "--out", "/proc/x"), "--out /proc/x: /proc may not be written"),
    ((*ONE, "--set", "slo={'added_s.p9'='<= 1'}"), "unknown metric; did you mean 'added_s.p99'"),
    ((*ONE, "--out", "small.toml/deeper"), "small.toml is no folder"),
    ((*ONE, "--target", "gone:f"), "cannot import gone"),
    (("corpus", "gone.csv"), "gone.csv: no such file"),
    (("corpus", "empty.csv"), "empty.csv"),
    (("corpus", "templates8", "--reviews", "0"), "ask for 1 or more"),
    (("mock", "gone.toml"), "gone.toml: no such file"),
    (("mock", "key.toml", "--port", "99999"), "--port"),
    (("mock", "alone.toml"), "missing table [upstream]"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD)
def test_bad_input_is_one_line_and_leaves_nothing(
    harness: Harness, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """Exit code 2, one line on standard error that names the culprit, and no file written."""
    for name, (content, _) in {**SCENARIOS, **CORPORA}.items():
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
    before = files(tmp_path)
    done = harness(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("harness: ")
    assert done.err.count("\n") == 1
    assert said in done.err
    assert files(tmp_path) == before


def test_no_arguments_show_the_help(harness: Harness) -> None:
    """Somebody who asks for nothing is told what there is, without a complaint."""
    done = harness()
    assert done.code == 2
    assert done.err == ""
    assert [name for name in ("run", "gate", "corpus", "mock") if f" {name} " not in done.out] == []
