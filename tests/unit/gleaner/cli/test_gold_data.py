"""Gold files: what is read, and which faults are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gleaner.cli.files.rows import InputError
from gleaner.cli.gold_data import GoldText, all_labels, read_gold
from gleaner.evaluation import Span

ADA: dict[str, Any] = {"text": "Ada Lovelace", "entities": [{"start": 0, "end": 3, "label": "person"}]}


def write_gold(folder: Path, *rows: Any) -> Path:
    """Write rows as JSON lines."""
    path = folder / "gold.jsonl"
    path.write_text("\n\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_gold_is_read_with_its_labels(tmp_path: Path) -> None:
    """Blank lines are skipped, patterns expanded, and labels listed in the order of their first occurrence."""
    write_gold(tmp_path, ADA, {"text": "x", "entities": [], "labels": ["city", "person"]})
    gold = read_gold([tmp_path / "*.jsonl"])

    assert [(text.text, text.entities, text.labels) for text in gold] == [
        ("Ada Lovelace", {Span(0, 3, "person")}, None),
        ("x", set(), ("city", "person")),
    ]
    assert all_labels(gold) == ["person", "city"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("not JSON", "not gold"),
        ("[]", "not gold"),
        ({"text": "Ada", "entities": [{"start": 0}]}, "not gold"),
        ({"text": "x", "entities": [{"start": 0, "end": 1, "label": 1}]}, "must be strings"),
        ({"text": "x", "entities": [{"start": "0", "end": 1, "label": "a"}]}, "is not within the text"),
        ({"text": "xyz", "entities": [{"start": 2, "end": 2, "label": "a"}]}, "is not within the text"),
        ({"text": "x"}, "not gold"),
        ({"text": 1, "entities": []}, "must be strings"),
        ({"text": "x", "entities": [{"start": 0, "end": 2, "label": "a"}]}, "is not within the text"),
        ({"text": "x", "entities": [{"start": True, "end": 1, "label": "a"}]}, "is not within the text"),
        ({**ADA, "labels": ["city"]}, "not in its `labels`: person"),
    ],
)
def test_a_line_that_is_not_gold_is_named(tmp_path: Path, row: Any, message: str) -> None:
    """The message has the file, the line and the reason."""
    path = write_gold(tmp_path, ADA, row)
    with pytest.raises(InputError, match="line 3: ") as raised:
        read_gold([path])

    assert message in str(raised.value)


def test_gold_without_entities_is_refused(tmp_path: Path) -> None:
    """There would be nothing to compare with."""
    with pytest.raises(InputError, match="no entity"):
        read_gold([write_gold(tmp_path, {"text": "x", "entities": []})])


def test_every_fault_of_every_file_is_listed(tmp_path: Path) -> None:
    """Missing files, lines in another encoding, and lines that are not gold, each with its place."""
    path = write_gold(tmp_path, ADA, "{")
    path.write_bytes(path.read_bytes() + b"\nZo\xeb\n")
    with pytest.raises(InputError) as raised:
        read_gold([path, tmp_path / "none.jsonl"])
    first, second, third = str(raised.value).splitlines()
    assert first.startswith(f"{path}, line 3: not gold")
    assert second.strip().startswith(f"{path}, line 4: not UTF-8 (byte 0xeb)")
    assert third.strip() == f"{tmp_path / 'none.jsonl'}: No such file or directory"


def test_more_fields_are_ignored(tmp_path: Path) -> None:
    """So that corrected results are gold."""
    row = {**ADA, "id": "7", "entities": [{**ADA["entities"][0], "score": 0.9, "text": "Ada"}]}
    assert read_gold([write_gold(tmp_path, row)]) == [GoldText("Ada Lovelace", frozenset({Span(0, 3, "person")}))]
