"""Files become text: compression, byte order marks, encodings."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from gleaner.cli.files import decoding
from gleaner.cli.files.decoding import decode_bytes, find_codec, open_bytes, open_text, read_text
from gleaner.cli.files.rows import InputError, Row, find_undecoded
from tests.unit.gleaner.cli.files.documents import list_faults, read_items


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("zst", zstd.compress)])
def test_packed_files(tmp_path: Path, suffix: str, pack: Any) -> None:
    """The name before `.gz` implies the format; a truncated file is a fault, whatever its name."""
    packed = pack(b"".join(b'"%d"\n' % number for number in range(5000)))
    assert len(read_items(tmp_path / f"a.jsonl.{suffix}", packed)) == 5000
    assert len(read_items(tmp_path / "a.jsonl", packed)) == 5000
    assert (
        "the compressed file is corrupt" in list_faults(read_items(tmp_path / f"a.jsonl.{suffix}", packed[:-9]))[-1]
    )
    assert read_items(tmp_path / f"a.txt.{suffix}", pack(b"Ada")) == [Row(f"a.txt.{suffix}", "Ada")]


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
        assert read_items(tmp_path / f"a.{kind}", content.encode(codec), encoding=label) == [Row("1", text)]
    assert read_items(tmp_path / "a.txt", text.encode(codec), encoding=label) == [Row("a.txt", text)]


def test_a_byte_order_mark_says_the_encoding(tmp_path: Path) -> None:
    """Whatever --encoding says: spreadsheets' "Unicode text" is UTF-16."""
    for codec in ("utf-16", "utf-32", "utf-8-sig"):
        content = "id\ttext\r\n1\tZoë\r\n".encode(codec)
        assert (
            read_items(tmp_path / "a.tsv", content)
            == read_items(tmp_path / "a.tsv", content, encoding="cp1252")
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
    (fault,) = list_faults(read_items(tmp_path / name, content))
    assert fault.startswith(name)
    assert said in fault


@pytest.mark.parametrize(
    ("content", "marked", "text"),
    [
        ("\ufeffAda".encode(), True, "Ada"),
        (b"Ada", False, "Ada"),
        ("Ada".encode("utf-16"), False, "Ada"),
        ("Ada".encode("utf-32"), False, "Ada"),
        (gzip.compress("\ufeffAda\r\n".encode()), True, "Ada\r\n"),
    ],
)
def test_a_mark_of_utf8_is_reported(tmp_path: Path, content: bytes, marked: bool, text: str) -> None:
    """Byte offsets count it; marks of other encodings only say the encoding."""
    (tmp_path / "a").write_bytes(content)
    decoded, opened = read_text(tmp_path / "a", None)
    assert (decoded, opened.marked) == (text, marked)


@pytest.mark.parametrize(
    ("label", "codec"),
    [("LATIN1", "cp1252"), ("gbk", "gb18030"), ("utf8", "utf-8"), ("x-user-defined", "cp1252"), ("cp437", "cp437")],
)
def test_a_label_names_a_codec(label: str, codec: str) -> None:
    """Labels mean the same as in browsers, and others the same as in Python."""
    assert find_codec(label) == codec


@pytest.mark.parametrize("label", ["klingon", "hex", "rot13", "undefined", "iso-2022-kr", "replacement", ""])
def test_a_label_of_no_text_encoding_is_refused(label: str) -> None:
    """Codecs of Python that do not decode text, and encodings that are not safe."""
    with pytest.raises(InputError, match="encoding"):
        find_codec(label)


@pytest.mark.parametrize(
    ("content", "codec", "text"),
    [
        (b"a\x81b", "cp1252", "a\x81b"),
        (b"\x80", "gb18030", "€"),
        (b"Zo\xeb", "utf-8", "Zo\udceb"),
        (b"a\x00\x00\xd8", "utf-16-le", "a\udc80"),
    ],
)
def test_bytes_are_decoded_as_the_encoding_standard_says(content: bytes, codec: str, text: str) -> None:
    """A byte that is invalid becomes a surrogate by which it is found."""
    assert decode_bytes(content, codec) == text
    assert (find_undecoded(text) is None) == text.isprintable() or codec == "cp1252"


def test_a_text_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded; the message says what to do."""
    monkeypatch.setattr(decoding, "RECORD_CHARACTERS", 10)
    (tmp_path / "a").write_text("x" * 11)
    with pytest.raises(InputError, match="larger than 10 characters; split it"):
        read_text(tmp_path / "a", None)
    (tmp_path / "a").write_text("x" * 10)
    assert read_text(tmp_path / "a", None)[0] == "x" * 10


def test_an_error_of_the_reader_is_not_one_of_the_file(tmp_path: Path) -> None:
    """Only errors of decompression are reported as a corrupt file."""
    (tmp_path / "a").write_bytes(gzip.compress(b"Ada"))
    with pytest.raises(ZeroDivisionError), open_bytes(tmp_path / "a"):
        raise ZeroDivisionError
    with pytest.raises(FileNotFoundError), open_text(tmp_path / "none", None):
        pass
