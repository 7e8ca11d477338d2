"""Files become documents, or an error that says which line is wrong and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from gleaner.cli.readers import Columns, Format, InputError, Row, expand, format_of, read

COLUMNS = Columns()


def rows(path: Path, kind: Format, columns: Columns = COLUMNS) -> list[Row]:
    """Everything in the file."""
    return list(read(path, kind, columns))


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    """Its id is its path; a byte order mark is no text."""
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffAda\nLovelace".encode())

    assert rows(path, Format.txt) == [Row(str(path), "Ada\nLovelace")]


def test_json_lines(tmp_path: Path) -> None:
    """Objects with text and id, plain strings, own labels and options; blank lines count as lines, not as rows."""
    path = tmp_path / "a.jsonl"
    lines = ['{"id": 7, "text": "one", "labels": ["x"], "options": {"flat": false}}', "", '"two"', '{"text": null}']
    path.write_text("\n".join(lines))

    assert rows(path, Format.jsonl) == [Row("7", "one", ["x"], {"flat": False}), Row("3", "two"), Row("4", "")]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [("{", "line 2: not JSON"), ("[1]", "line 2: neither"), ('{"text": 5}', "line 2: 'text' is not text but int")],
)
def test_a_broken_json_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    """The error has file and line."""
    path = tmp_path / "a.jsonl"
    path.write_text('"fine"\n' + line)

    with pytest.raises(InputError, match=complaint):
        rows(path, Format.jsonl)


def test_csv(tmp_path: Path) -> None:
    """Quoted cells with newlines, cells beyond the csv module's limit, rows without an id."""
    long = "word " * 60_000
    path = tmp_path / "a.csv"
    path.write_text(f'id,body,more\nx,"one\ntwo",3\n,{long},\n', newline="")

    assert rows(path, Format.csv, Columns("body")) == [Row("x", "one\ntwo"), Row("2", long)]


def test_tsv(tmp_path: Path) -> None:
    """Tabs part the columns."""
    path = tmp_path / "a.tsv"
    path.write_text("id\ttext\nx\tone, two\n")

    assert rows(path, Format.tsv) == [Row("x", "one, two")]


def test_parquet(tmp_path: Path) -> None:
    """Text and id columns are read, nulls are empty texts, and other columns are left alone."""
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"id": [1, 2], "text": ["one", None], "blob": [b"x", b"y"]})
    parquet.write_table(table, path)

    assert rows(path, Format.parquet) == [Row("1", "one"), Row("2", "")]


def test_a_missing_column_is_named_with_those_there(tmp_path: Path) -> None:
    """The error says how to choose, and from what."""
    path = tmp_path / "a.csv"
    path.write_text("title,body\na,b\n")

    with pytest.raises(InputError, match=r"no column 'text'; choose with --text-column \(there are: title, body\)"):
        rows(path, Format.csv)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [("a.txt", b"\xff\xfe\x00", Format.txt), ("a.parquet", b"PAR?", Format.parquet)],
)
def test_content_of_another_kind_is_an_input_error(tmp_path: Path, name: str, content: bytes, kind: Format) -> None:
    """Not UTF-8, not Parquet: said so, with the file's name."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InputError, match=name):
        rows(tmp_path / name, kind)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    """No traceback for a typo."""
    with pytest.raises(InputError, match="No such file"):
        rows(tmp_path / "no.txt", Format.txt)


def test_a_page_is_one_document(tmp_path: Path) -> None:
    """HTML is read as its text, in which offsets count; an encoding that is not what it says is an input error."""
    path = tmp_path / "a.html"
    path.write_text("<h1>Ada</h1><p>Lovelace &amp; co")
    assert rows(path, format_of(path, None)) == [Row(str(path), "Ada\nLovelace & co")]
    path.write_bytes(b"<p>\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        rows(path, Format.html)


def test_patterns_that_the_shell_left_alone(tmp_path: Path) -> None:
    """They are filled in, sorted; one that matches nothing, and a folder, are told."""
    for name in ("b/2.txt", "b/10.txt", "a.txt", "c.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = expand([tmp_path / "**/*.txt", tmp_path / "c.csv", Path("-"), tmp_path / "missing.txt"])
    names = [path.name for path in found]
    assert names == ["a.txt", "10.txt", "2.txt", "c.csv", "-", "missing.txt"]
    with pytest.raises(InputError, match="no file matches"):
        list(expand([tmp_path / "*.md"]))
    with pytest.raises(InputError, match=r"is a folder; say which files, as '.*/\*\*/\*\.txt'"):
        list(expand([tmp_path / "b"]))


def test_formats_by_name() -> None:
    """The suffix decides unless the user does; an unknown one is asked about."""
    assert format_of(Path("a.NDJSON"), None) is Format.jsonl
    assert format_of(Path("a.dat"), Format.csv) is Format.csv
    with pytest.raises(InputError, match="--format"):
        format_of(Path("a.dat"), None)


def test_ids_stay_here() -> None:
    """A submitted document has no id, so that equal ids in one file do no harm."""
    assert Row("same", "text", ["x"]).document() == {"text": "text", "labels": ["x"]}
    assert json.dumps(Row("same", "text").document()) == '{"text": "text"}'
