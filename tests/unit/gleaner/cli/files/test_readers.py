"""Files become documents, or an error that names the wrong line and the way to mend it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from gleaner.cli.files.readers import PART_BYTES, expand_pattern, format_of
from gleaner.cli.files.rows import Format, InputError, Row
from tests.unit.gleaner.cli.files.documents import list_faults, read_items


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.text"])
def test_a_text_file_is_one_document_as_it_is(tmp_path: Path, name: str) -> None:
    """Its id is its path; line ends stay, whatever they are; a byte order mark is no text."""
    content = "\ufeffAda\r\nLovelace\rlived\n\u2028\x85\x0b\n"
    assert read_items(tmp_path / name, content) == [Row(name, content[1:])]


@pytest.mark.parametrize(("unit", "base"), [("codepoint", 0), ("utf16", 0), ("byte", 3)])
def test_byte_offsets_count_a_byte_order_mark(tmp_path: Path, unit: Any, base: int) -> None:
    """They are the file's; characters count from behind it, as editors and `utf-8-sig` have them."""
    (row,) = read_items(tmp_path / "a.txt", "\ufeffAda", unit=unit)
    assert isinstance(row, Row)
    assert (row.base, row.text) == (base, "Ada")


def test_an_id_column_that_was_named_must_be_there(tmp_path: Path) -> None:
    """For JSON as for tables; the column `id` is taken only where there is one."""
    assert (
        "no field 'key'; choose one with --id-column"
        in list_faults(read_items(tmp_path / "a.jsonl", '{"text":"x"}', id_column="key"))[0]
    )
    assert (
        "no column 'key'; choose one with --id-column"
        in list_faults(read_items(tmp_path / "a.csv", "text\nx\n", id_column="key"))[0]
    )
    parquet.write_table(pyarrow.table({"text": ["x"]}), tmp_path / "a.parquet")
    assert (
        "no column 'key'; choose one with --id-column"
        in list_faults(read_items(tmp_path / "a.parquet", id_column="key"))[0]
    )


def test_a_document_per_line(tmp_path: Path) -> None:
    """Blank lines are none, and count; ids are line numbers."""
    documents = read_items(tmp_path / "a.txt", "Ada\r\n\r\nGrace \n", Format.LINES)
    assert documents == [Row("1", "Ada"), Row("3", "Grace ")]


@pytest.mark.parametrize("name", ["a.xlsx", "a.docx", "a.pdf", "a.zip", "a.dat", "a"])
def test_what_is_not_read_is_refused_by_name(name: str) -> None:
    """With a way out."""
    with pytest.raises(InputError, match=f"{name}: .*(save it as|extract its text|unpack it|--format)"):
        format_of(Path(name), None)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    """No traceback for a typo, a folder with a file's name, a name that is no UTF-8."""
    assert list_faults(read_items(tmp_path / "no.txt")) == ["no.txt: No such file or directory"]
    (tmp_path / "folder.txt").mkdir()
    assert list_faults(read_items(tmp_path / "folder.txt")) == ["folder.txt: Is a directory"]
    odd = tmp_path / "caf\udce9.txt"
    assert read_items(odd, "Ada") == [Row("caf\udce9.txt", "Ada")]


def test_parquet(tmp_path: Path) -> None:
    """Text and id columns are read, nulls are empty texts, and other columns are left alone."""
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"id": [1, 2], "text": ["one", None], "blob": [b"x", b"y"]})
    parquet.write_table(table, path)

    assert read_items(path) == [Row("1", "one"), Row("2", "")]


def test_a_page_is_one_document(tmp_path: Path) -> None:
    """HTML is read as its text, in which offsets count."""
    assert read_items(tmp_path / "a.html", "<h1>Ada</h1><p>Lovelace &amp; co") == [
        Row("a.html", "Ada\nLovelace & co")
    ]


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


@pytest.mark.parametrize("unit", ["codepoint", "utf16", "byte"])
def test_a_text_that_is_too_large_is_cut_between_paragraphs(tmp_path: Path, unit: Any) -> None:
    """The parts are the text, none is too large, and each knows where it begins."""
    text = "".join(
        f"Ada 😀 é met Grace {number}.\r\n{'' if number % 9 else chr(13) + chr(10)}" for number in range(60_000)
    )
    parts = [
        row
        for row in read_items(tmp_path / "a.txt", "\ufeff" + text, unit=unit, split=True)
        if isinstance(row, Row)
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
    parts = read_items(tmp_path / "a.txt", "😀" * 600_000, split=True)
    assert "".join(part.text for part in parts if isinstance(part, Row)) == "😀" * 600_000
    assert read_items(tmp_path / "a.txt", "small", split=True) == [Row("a.txt", "small")]
