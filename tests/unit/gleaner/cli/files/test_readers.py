"""Files become documents, or an error that names the wrong line and the way to mend it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from backports import zstd
from pyarrow import parquet

from gleaner.cli.files.readers import PART_BYTES, expand_pattern, format_of, read_documents
from gleaner.cli.files.rows import Fault, Format, InputError, Reading, Row


def items(
    path: Path, content: str | bytes | None = None, kind: Format | None = None, **options: Any
) -> list[Row | Fault]:
    """Everything in the file."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_documents(path, format_of(path, kind), Reading(**options), path.name))


def faults(read_items: list[Row | Fault]) -> list[str]:
    """Return the faults as text."""
    return [str(item) for item in read_items if isinstance(item, Fault)]


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.text"])
def test_a_text_file_is_one_document_as_it_is(tmp_path: Path, name: str) -> None:
    """Its id is its path; line ends stay, whatever they are; a byte order mark is no text."""
    content = "\ufeffAda\r\nLovelace\rlived\n\u2028\x85\x0b\n"
    assert items(tmp_path / name, content) == [Row(name, content[1:])]


@pytest.mark.parametrize(("unit", "base"), [("codepoint", 0), ("utf16", 0), ("byte", 3)])
def test_byte_offsets_count_a_byte_order_mark(tmp_path: Path, unit: Any, base: int) -> None:
    """They are the file's; characters count from behind it, as editors and `utf-8-sig` have them."""
    (row,) = items(tmp_path / "a.txt", "\ufeffAda", unit=unit)
    assert isinstance(row, Row)
    assert (row.base, row.text) == (base, "Ada")


def test_json_lines(tmp_path: Path) -> None:
    """Objects with text and id, plain strings, own labels and options; blank lines count as lines, not as rows."""
    lines = ['{"id": 7, "text": "one", "labels": ["x"], "options": {"flat": false}}', "", '"two"', '{"text": null}']
    lines += ['{"text": NaN, "id": NaN}', '{"id": "", "text": "\\u2028"}']
    for end in ("\n", "\r\n", "\r"):
        read_items = items(tmp_path / "a.jsonl", end.join(lines))
        rows = [
            Row("7", "one", ["x"], {"flat": False}),
            Row("3", "two"),
            Row("4", ""),
            Row("5", ""),
            Row("6", "\u2028"),
        ]
        assert read_items == rows


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 2: not a JSON document"),
        ("[1]", "line 2: neither"),
        ("[" * 100_000, "line 2: not a JSON document .nested too deeply"),
        ('{"a":' * 100_000, "line 2: not a JSON document .nested too deeply"),
        ('{"body": "x"}', r"line 2: no field 'text'; choose one with --text-column \(fields: 'body'\)"),
        (
            '{"text": "x", "a": {"text": 1}, "text": "y"}',
            "line 2: not a JSON document .the field 'text' occurs twice",
        ),
        ('{"text": ["x"]}', "line 2: 'text' is not text but a list"),
        ('{"text": "x", "id": {"a": 1}}', "line 2: the id 'id' is neither text nor a number"),
        ('{"text": "x", "id": "a\\nb"}', "line 2: the id .* contains a control character"),
        ('{"text": "x", "id": "a\\u0000"}', "line 2: the id .* contains a control character"),
        ('{"text": "x", "labels": [0, 1]}', r"line 2: its `labels`, \[0, 1\], are .*--ignore-columns labels"),
        ('{"text": "x", "labels": [[0, 5, "PER"]]}', "line 2: its `labels`.*--ignore-columns labels"),
        ('{"text": "x", "labels": ["O", "O"]}', "line 2: its `labels`.*different names"),
        ('{"text": "x", "labels": []}', "line 2: its `labels`"),
        ('{"text": "x", "labels": "pos"}', "line 2: its `labels`"),
        ('{"text": "x", "labels": {"a": 1}}', "line 2: its `labels`"),
        ('{"text": "x", "options": [{"id": 1}]}', "line 2: its `options`.*--ignore-columns options"),
        ('{"text": "x", "options": {"A": "yes"}}', "line 2: its `options`.*--ignore-columns options"),
        (b'{"text": "Zo\xeb"}', r"line 2: not UTF-8 \(byte 0xeb\); .*--encoding"),
    ],
)
def test_a_line_that_is_no_document_is_named_and_the_next_is_read(
    tmp_path: Path, line: Any, complaint: str
) -> None:
    """The fault has file and line."""
    path = tmp_path / "a.jsonl"
    line = line if isinstance(line, bytes) else line.encode()
    first, fault, last = items(path, b'"fine"\n' + line + b'\n"fine too"\n')

    assert [first, last] == [Row("1", "fine"), Row("3", "fine too")]
    assert isinstance(fault, Fault)
    with pytest.raises(InputError, match=f"a.jsonl, {complaint}"):
        raise InputError(str(fault))


@pytest.mark.parametrize("value", ["5", "true", "1.5"])
def test_a_text_that_is_a_number_fails_alone(tmp_path: Path, value: str) -> None:
    """Like a null text, it stops no other document."""
    (row,) = items(tmp_path / "a.jsonl", f'{{"text": {value}}}')
    assert isinstance(row, Row)
    assert "line 1: 'text' is not text but" in str(row.fault)


def test_fields_of_another_meaning_can_be_left_alone(tmp_path: Path) -> None:
    """Data sets may use the field `labels` for something else."""
    line = '{"text": "x", "labels": [0], "options": [1]}'
    assert items(tmp_path / "a.jsonl", line, ignored=frozenset({"labels", "options"})) == [Row("1", "x")]


def test_an_id_column_that_was_named_must_be_there(tmp_path: Path) -> None:
    """For JSON as for tables; the column `id` is taken only where there is one."""
    assert (
        "no field 'key'; choose one with --id-column"
        in faults(items(tmp_path / "a.jsonl", '{"text":"x"}', id_column="key"))[0]
    )
    assert (
        "no column 'key'; choose one with --id-column"
        in faults(items(tmp_path / "a.csv", "text\nx\n", id_column="key"))[0]
    )
    parquet.write_table(pyarrow.table({"text": ["x"]}), tmp_path / "a.parquet")
    assert (
        "no column 'key'; choose one with --id-column" in faults(items(tmp_path / "a.parquet", id_column="key"))[0]
    )


def test_a_json_list(tmp_path: Path) -> None:
    """Elements are read like lines; a `.json` file of JSON lines is read as such."""
    content = '\ufeff[ {"text": "a]", "id": "x"},\n"b" , 12,\n{"text": NaN}\n]\n'
    first, second, fault, last = items(tmp_path / "a.json", content)
    assert [first, second, last] == [Row("x", "a]"), Row("2", "b"), Row("4", "")]
    assert str(fault) == "a.json, line 2 (document 3): neither an object nor a string"
    assert items(tmp_path / "a.json", '{"text": "a"}\n"b"\n') == [Row("1", "a"), Row("2", "b")]
    assert items(tmp_path / "a.json", "[]") == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('["a" "b"]', "line 1: missing comma or ]"),
        ('["a",\n{"text": }]', "line 2: not JSON"),
        ('["a",\n"b"', "line 2: missing comma or ]"),
        ('["a"] x', "line 1: text after the end of the list"),
        ("[" * 100_000, "nested too deeply"),
        ('{"data": [\n"a"]}', "neither a JSON list of documents"),
        ("5", "neither a JSON list of documents"),
    ],
)
def test_a_broken_json_list_is_told(tmp_path: Path, content: str, said: str) -> None:
    """With its line."""
    assert said in faults(items(tmp_path / "a.json", content))[-1]


def test_a_long_json_list_is_read_piece_by_piece(tmp_path: Path) -> None:
    """Elements longer than a piece, and any number of them."""
    texts = ["x" * 3_000_000, *("y" * 100 for _ in range(20_000)), "é" * 1_500_000]
    assert [item.text for item in items(tmp_path / "a.json", json.dumps(texts)) if isinstance(item, Row)] == texts


def test_a_document_per_line(tmp_path: Path) -> None:
    """Blank lines are none, and count; ids are line numbers."""
    read_items = items(tmp_path / "a.txt", "Ada\r\n\r\nGrace \n", Format.LINES)
    assert read_items == [Row("1", "Ada"), Row("3", "Grace ")]


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("zst", zstd.compress)])
def test_packed_files(tmp_path: Path, suffix: str, pack: Any) -> None:
    """The name before `.gz` implies the format; a truncated file is a fault, whatever its name."""
    packed = pack(b"".join(b'"%d"\n' % number for number in range(5000)))
    assert len(items(tmp_path / f"a.jsonl.{suffix}", packed)) == 5000
    assert len(items(tmp_path / "a.jsonl", packed)) == 5000
    assert "the compressed file is corrupt" in faults(items(tmp_path / f"a.jsonl.{suffix}", packed[:-9]))[-1]
    assert items(tmp_path / f"a.txt.{suffix}", pack(b"Ada")) == [Row(f"a.txt.{suffix}", "Ada")]


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("latin-1", "cp1252"),
        ("ISO-8859-1", "cp1252"),
        ("windows-1252", "cp1252"),
        ("utf-16le", "utf-16-le"),
        ("gb2312", "gb18030"),
        ("cp437", "cp437"),
        ("macintosh", "mac-roman"),
        ("Shift_JIS", "cp932"),
    ],
)
def test_an_encoding_by_any_label(tmp_path: Path, label: str, codec: str) -> None:
    """The Encoding Standard's, read as browsers do, and Python's."""
    text = "Zoë é" if codec not in ("gb18030", "cp932") else "東京"
    for kind, content in (("csv", f"id,text\n1,{text}\n"), ("jsonl", f'{{"id":1,"text":"{text}"}}\n')):
        assert items(tmp_path / f"a.{kind}", content.encode(codec), encoding=label) == [Row("1", text)]
    assert items(tmp_path / "a.txt", text.encode(codec), encoding=label) == [Row("a.txt", text)]


def test_a_byte_order_mark_says_the_encoding(tmp_path: Path) -> None:
    """Whatever --encoding says: spreadsheets' "Unicode text" is UTF-16."""
    for codec in ("utf-16", "utf-32", "utf-8-sig"):
        content = "id\ttext\r\n1\tZoë\r\n".encode(codec)
        assert (
            items(tmp_path / "a.tsv", content)
            == items(tmp_path / "a.tsv", content, encoding="cp1252")
            == [Row("1", "Zoë")]
        )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"\xff\x00", "not UTF-8"),
        ("a.csv", "id,text\n1,x\n".encode("utf-16-le"), "--encoding utf-16le"),
        ("a.txt", b"%PDF-1.7", "a PDF"),
        ("a.csv", b"PK\x03\x04...", "save it as CSV"),
        ("a.html", b"PK\x03\x04...", "save it as CSV"),
        ("a.jsonl", b"PAR1", "--format parquet"),
        ("a.parquet", b"PAR?", "not Parquet"),
        ("a.html", b"<p>\xff", "not UTF-8"),
    ],
)
def test_content_of_another_kind_is_told(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    """By the file's name, and its kind where that is known."""
    (fault,) = faults(items(tmp_path / name, content))
    assert fault.startswith(name)
    assert said in fault


@pytest.mark.parametrize("name", ["a.xlsx", "a.docx", "a.pdf", "a.zip", "a.dat", "a"])
def test_what_is_not_read_is_refused_by_name(name: str) -> None:
    """With a way out."""
    with pytest.raises(InputError, match=f"{name}: .*(save it as|extract its text|unpack it|--format)"):
        format_of(Path(name), None)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    """No traceback for a typo, a folder with a file's name, a name that is no UTF-8."""
    assert faults(items(tmp_path / "no.txt")) == ["no.txt: No such file or directory"]
    (tmp_path / "folder.txt").mkdir()
    assert faults(items(tmp_path / "folder.txt")) == ["folder.txt: Is a directory"]
    odd = tmp_path / "caf\udce9.txt"
    assert items(odd, "Ada") == [Row("caf\udce9.txt", "Ada")]


def test_parquet(tmp_path: Path) -> None:
    """Text and id columns are read, nulls are empty texts, and other columns are left alone."""
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"id": [1, 2], "text": ["one", None], "blob": [b"x", b"y"]})
    parquet.write_table(table, path)

    assert items(path) == [Row("1", "one"), Row("2", "")]


def test_a_page_is_one_document(tmp_path: Path) -> None:
    """HTML is read as its text, in which offsets count."""
    assert items(tmp_path / "a.html", "<h1>Ada</h1><p>Lovelace &amp; co") == [Row("a.html", "Ada\nLovelace & co")]


def test_patterns_that_the_shell_left_alone(tmp_path: Path) -> None:
    """They are expanded and sorted; a pattern without matches and a folder are refused."""
    for name in ("b/2.txt", "b/10.txt", "a.txt", "c.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in expand_pattern(tmp_path / "**/*.txt") or ()] == ["a.txt", "10.txt", "2.txt"]
    assert [expand_pattern(path) for path in (tmp_path / "c.csv", Path("-"), tmp_path / "missing.txt")] == [
        None
    ] * 3
    with pytest.raises(InputError, match="no file matches"):
        expand_pattern(tmp_path / "*.md")
    with pytest.raises(InputError, match=r"is a folder; use a pattern, such as '.*/\*\*/\*\.txt'"):
        expand_pattern(tmp_path / "b")


def test_a_folder_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    """A path that exists literally is not a pattern."""
    for folder in ("dir[x]", "dirx"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "sub" / f"{folder}.txt").touch()
    assert [path.name for path in expand_pattern(tmp_path / "dir[x]/*/*.txt") or ()] == ["dir[x].txt"]
    assert [path.name for path in expand_pattern(tmp_path / "dir[xy]/**/*.txt") or ()] == ["dirx.txt"]
    assert expand_pattern(tmp_path / "dir[x]/sub/dir[x].txt") is None


def test_formats_by_name() -> None:
    """The suffix decides unless the user does; an unknown one is asked about."""
    assert format_of(Path("a.NDJSON"), None) is Format.JSONL
    assert format_of(Path("a.CSV.GZ"), None) is Format.CSV
    assert format_of(Path("a.dat"), Format.CSV) is Format.CSV


def test_ids_stay_here() -> None:
    """A submitted document has no id, so that equal ids in one file do no harm."""
    assert Row("same", "text", ["x"]).to_document() == {"text": "text", "labels": ["x"]}
    assert json.dumps(Row("same", "text").to_document()) == '{"text": "text"}'


@pytest.mark.parametrize("unit", ["codepoint", "utf16", "byte"])
def test_a_text_that_is_too_large_is_cut_between_paragraphs(tmp_path: Path, unit: Any) -> None:
    """The parts are the text, none is too large, and each knows where it begins."""
    text = "".join(
        f"Ada 😀 é met Grace {number}.\r\n{'' if number % 9 else chr(13) + chr(10)}" for number in range(60_000)
    )
    parts = [
        row for row in items(tmp_path / "a.txt", "\ufeff" + text, unit=unit, split=True) if isinstance(row, Row)
    ]

    assert "".join(part.text for part in parts) == text
    assert [part.id for part in parts] == [f"a.txt#{number}" for number in range(1, len(parts) + 1)]
    assert len(parts) > 1
    assert all(len(part.text.encode()) <= PART_BYTES for part in parts)
    assert all(part.text.endswith("\r\n\r\n") for part in parts[:-1])
    whole = {"codepoint": text, "utf16": text.encode("utf-16-le"), "byte": ("\ufeff" + text).encode()}[unit]
    for part in parts[1:]:
        first = {
            "codepoint": part.text[:9],
            "utf16": part.text[:9].encode("utf-16-le"),
            "byte": part.text[:9].encode(),
        }
        at = part.base * (2 if unit == "utf16" else 1)
        assert whole[at : at + len(first[unit])] == first[unit]


def test_a_text_without_any_break_is_cut_all_the_same(tmp_path: Path) -> None:
    """And a small one is left as it is."""
    parts = items(tmp_path / "a.txt", "😀" * 600_000, split=True)
    assert "".join(part.text for part in parts if isinstance(part, Row)) == "😀" * 600_000
    assert items(tmp_path / "a.txt", "small", split=True) == [Row("a.txt", "small")]
