"""Corpora from files: what is read, what is noted, and one clear line for whatever is wrong."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.corpus.files import read_reviews
from harness.corpus.formats import parse_csv
from harness.corpus.review import Label, Review
from harness.corpus.rows import parse_label
from harness.errors import InputError

CSV = "id,title,content,category,label,rating\n7,Good,It works.,Toys,1,\n8,,It broke.,,0.0,\n"
ROWS = [
    Review(id="7", title="Good", content="It works.", category="toys", label="positive"),
    Review(id="8", content="It broke.", label="negative"),
]


def _write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def _read(path: Path, count: int | None = None, **columns: str) -> list[Review]:
    return list(read_reviews(path, count=count, columns=columns).reviews)


def _jsonl(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "A.CSV"])
def test_csv_is_read_plain_and_gzipped(tmp_path: Path, name: str) -> None:
    """Every field comes from the column of its name, the category in lower case."""
    assert _read(_write(tmp_path, name, CSV)) == ROWS


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.ndjson"])
def test_jsonl_is_read_plain_and_gzipped(tmp_path: Path, name: str) -> None:
    """Numbers are as good as strings, absent keys are empty, blank lines are ignored."""
    first = {"id": 7, "title": "Good", "content": "It works.", "category": "Toys"}
    text = (
        _jsonl([first | {"label": 1}])
        + "\n"
        + _jsonl([{"id": 8, "content": "It broke.", "label": 0}])
    )
    assert _read(_write(tmp_path, name, text)) == ROWS


def test_a_label_absent_from_the_first_row_is_still_read(tmp_path: Path) -> None:
    """JSON rows may leave out what they do not know, the first row too."""
    text = _jsonl(
        [{"text": "one"}, {"text": "two", "rating": 5}, {"text": "three", "label": False}]
    )
    labels = [review.label for review in _read(_write(tmp_path, "a.jsonl", text))]
    assert labels == [None, "positive", "negative"]


@pytest.mark.parametrize("column", ["content", "text", "review", "body"])
def test_the_text_has_four_usual_names(tmp_path: Path, column: str) -> None:
    """A file with one of the usual columns needs no mapping."""
    path = _write(tmp_path, "a.csv", f"{column},other\nhello,x\n")
    assert _read(path) == [Review(id="1", content="hello")]


def test_short_and_long_csv_rows(tmp_path: Path) -> None:
    """Values missing at the end of a row are empty, those beyond the header are ignored."""
    path = _write(tmp_path, "a.csv", "text,title\none\ntwo,T,more,and more\n")
    assert _read(path) == [Review(id="1", content="one"), Review(id="2", title="T", content="two")]


def test_columns_are_mapped(tmp_path: Path) -> None:
    """Our fields come from the columns the user names, also from names that mean something else."""
    header = "reviewerID,summary,reviewText,label,content\n"
    path = _write(tmp_path, "a.csv", header + "A1,Nice,Works.,5,ignored\nA2,Bad,Broke.,1,ignored\n")
    found = _read(path, id="reviewerID", title="summary", content="reviewText", rating="label")
    assert found == [
        Review(id="A1", title="Nice", content="Works.", label="positive"),
        Review(id="A2", title="Bad", content="Broke.", label="negative"),
    ]


def test_quoted_newlines_quotes_and_a_byte_order_mark(tmp_path: Path) -> None:
    """A text may span lines and hold quotes; a spreadsheet's mark is not part of a column name."""
    path = _write(tmp_path, "a.csv", '\ufefftext,label\n"one\n\n""two"", three",pos\n')
    assert _read(path) == [Review(id="1", content='one\n\n"two", three', label="positive")]


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\r\x00")).filter(str.strip),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_survives_csv(texts: list[str]) -> None:
    """What a CSV writer quotes is read back unchanged."""
    lines = ["text\n", *('"' + text.replace('"', '""') + '"\n' for text in texts)]
    table = parse_csv(iter("".join(lines).splitlines(keepends=True)), "a.csv")
    assert [row.values["text"] for row in table.rows] == texts


@pytest.mark.parametrize(
    ("label", "rating", "expected"),
    [
        *((text, "1", "positive") for text in ("1", "1.0", "positive", " POS ", "True")),
        *((text, "5", "negative") for text in ("0", "0.0", "Negative", "neg", "false")),
        *(("", text, "positive") for text in ("4", "4.0", "5", "10")),
        *(("", text, "negative") for text in ("2", "1.5", "0")),
        *(("", text, None) for text in ("3", "3.9", "2.1", "", "nan")),
        ("neutral", "", None),
    ],
)
def test_labels_are_read_in_every_usual_form(
    label: str, rating: str, expected: Label | None
) -> None:
    """A label counts before a rating; a rating decides from 4 up and from 2 down."""
    assert parse_label(label, rating, "here") == expected


def test_rows_without_id_are_called_by_their_number(tmp_path: Path) -> None:
    """The number is that of the row, counted from 1, rows without text included."""
    found = read_reviews(_write(tmp_path, "a.csv", "id,text\n,one\n, \nx,three\n,four\n"))
    assert [review.id for review in found.reviews] == ["1", "x", "4"]
    assert found.notes == ("1 rows without text skipped",)


def test_repeated_ids_are_made_unique(tmp_path: Path) -> None:
    """No two reviews share an id, because a request is known by it; the change is noted."""
    found = read_reviews(_write(tmp_path, "a.csv", "id,text\n2,one\n,two\n2,three\n3,four\n"))
    assert [review.id for review in found.reviews] == ["2", "2-2", "2-3", "3"]
    assert found.notes == ("1 repeated ids made unique by their row number",)


def test_only_as_many_rows_as_wanted_are_read(tmp_path: Path) -> None:
    """A fault behind the last wanted row is not met, and there is nothing to note."""
    path = _write(tmp_path, "a.jsonl", _jsonl([{"text": "one"}, {"text": "two"}]) + "broken")
    found = read_reviews(path, count=2)
    assert [review.content for review in found.reviews] == ["one", "two"]
    assert found.notes == ()


def test_a_short_file_is_noted(tmp_path: Path) -> None:
    """Fewer reviews than wanted are all used, and the user is told."""
    found = read_reviews(_write(tmp_path, "a.csv", CSV), count=5)
    assert len(found.reviews) == 2
    assert found.notes == ("file has only 2 reviews: all are used",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "a.csv: is empty: its first line must name the columns"),
        ("a.csv.gz", "", "a.csv.gz: is empty: its first line must name the columns"),
        ("a.csv", "id,content\n", "a.csv: has a header and no rows: add some below it"),
        ("a.csv", b"text\nok\ncaf\xe9\n", "a.csv, line 3: not UTF-8: convert the file, "),
        ("a.csv", b"\xff\xfet\x00e\x00", "a.csv, line 1: not UTF-8: convert the file, "),
        ("a.csv", "text\n  \n\t\n", "a.csv: no row has text in column text: fill or map it"),
        ("a.csv", "text,label\nok,1\nno,5\n", "a.csv, line 3: label '5' is none of 1, 0, "),
        ("a.csv", "text,rating\nok,five\n", "a.csv, line 2: rating 'five' is no number: "),
        (
            "a.csv",
            "text\none\rtwo\n",
            "a.csv, line 2: not CSV, correct its quotes or line ends: new-line character seen in ",
        ),
        (
            "a.csv",
            "stars,reviewText\n5,Good.\n",
            (
                "a.csv: no column holds the text (the columns are stars, reviewText): "
                'say which does under [workload.columns], as content = "..."'
            ),
        ),
        ("a.jsonl", "", "a.jsonl: is empty: give one object like "),
        ("a.jsonl", '{"text":"a"}\n\n{"text":\n', "a.jsonl, line 3: not JSON, every line must "),
        ("a.jsonl", '{"text":"a"}\n[1]\n', "a.jsonl, line 2: a list, where an object like "),
        ("a.jsonl", '{"text":["a"]}\n', "a.jsonl, line 1: content is a list, not text: "),
        ("a.jsonl", '{"txt":"a"}\n', "a.jsonl: no column holds the text (the columns are txt): "),
        ("a.parquet", "PAR1", "a.parquet: not a corpus: give a .csv or .jsonl file, "),
    ],
)
def test_faults_of_a_file_are_one_line_with_the_place(
    tmp_path: Path, name: str, text: str | bytes, message: str
) -> None:
    """The error names the file, the line where there is one, and what to do."""
    with pytest.raises(InputError) as error:
        read_reviews(_write(tmp_path, name, text))
    said = str(error.value)
    assert said.startswith(f"{tmp_path}/{message}")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("keep", "spoil", "message"),
    [
        (-6, b"", "broken gzip: copy or download it again"),
        (40, b"\xff" * 40, "broken gzip: copy or download it again"),
        (0, b"text\nhello\n", "is not gzip: take .gz off its name, or compress it"),
    ],
    ids=["truncated", "damaged", "plain"],
)
def test_broken_gzip_is_said_plainly(tmp_path: Path, keep: int, spoil: bytes, message: str) -> None:
    """A download cut short, a damaged one, and a plain file with a wrong name are told apart."""
    text = "text\n" + "".join(f"review {n * n}\n" for n in range(5000))
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(text.encode())[:keep] + spoil)
    with pytest.raises(InputError) as error:
        read_reviews(path)
    assert str(error.value) == f"{path}: {message}"


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    """What is not a file is said to be absent, or a directory."""
    for path, message in (
        (tmp_path / "no.csv", "no such file: correct the path"),
        (tmp_path, "is a directory: name a file in it"),
    ):
        with pytest.raises(InputError) as error:
            read_reviews(path)
        assert str(error.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"contents": "text"},
            (
                "[workload.columns] contents: no such field of a review, did you mean content? "
                "(the fields are content, id, title, category, label, rating)"
            ),
        ),
        (
            {"rating": "stars"},
            (
                'a.csv: no column "stars" for rating (the columns are text, label): '
                "correct [workload.columns] rating"
            ),
        ),
        (
            {"title": "text"},
            (
                "a.csv: no column holds the text (the columns are text, label): "
                'say which does under [workload.columns], as content = "..."'
            ),
        ),
    ],
)
def test_faults_of_a_mapping_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    columns: Mapping[str, str],
    message: str,
) -> None:
    """An unknown field gets the nearest right name, an unknown column those that are there."""
    _write(tmp_path, "a.csv", "text,label\nhello,1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        read_reviews(Path("a.csv"), columns=columns)
    assert str(error.value) == message


def test_a_quote_that_never_closes_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field past the limit ends in one line, not in the memory of the machine."""
    monkeypatch.setattr("harness.corpus.formats.MAX_FIELD_CHARS", 100)
    path = _write(tmp_path, "a.csv", 'text\n"never closed\n' + "more\n" * 200)
    with pytest.raises(InputError, match=r"a\.csv, line 20: not CSV, .*: field larger than"):
        read_reviews(path)
