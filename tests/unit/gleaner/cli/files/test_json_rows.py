"""JSON lines and JSON lists become rows, or faults with their lines."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gleaner.cli.files import json_rows
from gleaner.cli.files.json_rows import parse_json
from gleaner.cli.files.rows import Fault, InputError, Row
from tests.unit.gleaner.cli.files.documents import list_faults, read_items


def test_json_lines(tmp_path: Path) -> None:
    """Objects with text and id, plain strings, own labels and options; blank lines count as lines, not as rows."""
    lines = ['{"id": 7, "text": "one", "labels": ["x"], "options": {"flat": false}}', "", '"two"', '{"text": null}']
    lines += ['{"text": NaN, "id": NaN}', '{"id": "", "text": "\\u2028"}']
    for end in ("\n", "\r\n", "\r"):
        documents = read_items(tmp_path / "a.jsonl", end.join(lines))
        rows = [
            Row("7", "one", ["x"], {"flat": False}),
            Row("3", "two"),
            Row("4", ""),
            Row("5", ""),
            Row("6", "\u2028"),
        ]
        assert documents == rows


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
    first, fault, last = read_items(path, b'"fine"\n' + line + b'\n"fine too"\n')

    assert [first, last] == [Row("1", "fine"), Row("3", "fine too")]
    assert isinstance(fault, Fault)
    with pytest.raises(InputError, match=f"a.jsonl, {complaint}"):
        raise InputError(str(fault))


@pytest.mark.parametrize("value", ["5", "true", "1.5"])
def test_a_text_that_is_a_number_fails_alone(tmp_path: Path, value: str) -> None:
    """Like a null text, it stops no other document."""
    (row,) = read_items(tmp_path / "a.jsonl", f'{{"text": {value}}}')
    assert isinstance(row, Row)
    assert "line 1: 'text' is not text but" in str(row.fault)


def test_fields_of_another_meaning_can_be_left_alone(tmp_path: Path) -> None:
    """Data sets may use the field `labels` for something else."""
    line = '{"text": "x", "labels": [0], "options": [1]}'
    assert read_items(tmp_path / "a.jsonl", line, ignored=frozenset({"labels", "options"})) == [Row("1", "x")]


def test_a_json_list(tmp_path: Path) -> None:
    """Elements are read like lines; a `.json` file of JSON lines is read as such."""
    content = '\ufeff[ {"text": "a]", "id": "x"},\n"b" , 12,\n{"text": NaN}\n]\n'
    first, second, fault, last = read_items(tmp_path / "a.json", content)
    assert [first, second, last] == [Row("x", "a]"), Row("2", "b"), Row("4", "")]
    assert str(fault) == "a.json, line 2 (document 3): neither an object nor a string"
    assert read_items(tmp_path / "a.json", '{"text": "a"}\n"b"\n') == [Row("1", "a"), Row("2", "b")]
    assert read_items(tmp_path / "a.json", "[]") == []


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
    assert said in list_faults(read_items(tmp_path / "a.json", content))[-1]


def test_a_long_json_list_is_read_piece_by_piece(tmp_path: Path) -> None:
    """Elements longer than a piece, and any number of them."""
    texts = ["x" * 3_000_000, *("y" * 100 for _ in range(20_000)), "é" * 1_500_000]
    assert [
        item.text for item in read_items(tmp_path / "a.json", json.dumps(texts)) if isinstance(item, Row)
    ] == texts


@settings(max_examples=50)
@given(st.lists(st.text(max_size=40), max_size=6), st.sampled_from([None, 0, 2]), st.booleans())
def test_a_list_is_the_same_whatever_its_blocks(texts: list[str], indent: int | None, ascii_only: bool) -> None:
    """Elements are cut anywhere by the end of a block, and their lines are counted across blocks."""
    content = json.dumps(texts, indent=indent, ensure_ascii=ascii_only)
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(json_rows, "_BLOCK_CHARACTERS", 7)
        documents = read_items(Path(folder) / "a.json", content)
    assert [item.text for item in documents if isinstance(item, Row)] == texts
    if indent is not None and texts:
        assert f"line {len(texts) + 1} " in documents[-1].where


def test_a_value_that_is_nested_too_deeply_is_not_json() -> None:
    """No RecursionError escapes."""
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)
