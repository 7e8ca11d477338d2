"""Labels and thresholds from options and files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.label_options import read_labels, read_threshold


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "\ufeff# people\nperson\n\n  city \nperson\n", ["x", "person", "city"]),
        ("a.txt", "city: a town: any\nratio 1:2\n", {"x": None, "city": "a town: any", "ratio 1:2": None}),
        ("a.json", '["person", "city"]', ["x", "person", "city"]),
        ("a.json", '{"city": "a town", "person": null}', {"x": None, "city": "a town", "person": None}),
    ],
)
def test_labels_from_a_file(tmp_path: Path, name: str, content: str, expected: Any) -> None:
    """Labels are one per line, with a description after a colon, or JSON; labels of -l come first."""
    (tmp_path / name).write_text(content)
    assert read_labels(["x"], tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "# none\n", "the file has no label"),
        ("a.json", "{", "write one label per line, or a JSON list or object"),
        ("a.json", '{"a": 1}', "neither labels nor"),
        ("no.txt", None, "No such file"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", '{"a": "x", "a": "y"}', "occurs twice"),
        ("a.txt", "a: x\nb\na: y\n", "line 3: the label 'a' occurs twice"),
    ],
)
def test_a_file_that_holds_no_labels_is_told(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    """With its name and a way out."""
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(CommandError, match=f"{name}.*{said}"):
        read_labels(None, tmp_path / name)


def test_no_labels_are_no_labels() -> None:
    """JSON lines may bring their own."""
    assert read_labels(None, None) is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], None),
        (["0.4"], 0.4),
        (["person=0.6", "a=b=0.7"], {"person": 0.6, "a=b": 0.7}),
        (["0.4", "person=0.6"], {"person": 0.6, "city": 0.4, "a=b": 0.4}),
    ],
)
def test_thresholds(options: list[str], expected: float | Mapping[str, float] | None) -> None:
    """A global threshold, thresholds per label, or both: then the other labels get the global one."""
    assert read_threshold(options, ["person", "city", "a=b"]) == expected


@pytest.mark.parametrize("options", [["x"], ["1.5"], ["person="], ["nan"], ["tree=0.5"]])
def test_what_is_no_threshold_is_told(options: list[str]) -> None:
    """A score out of 0..1, or of a label that nobody looks for."""
    with pytest.raises(CommandError, match="--threshold"):
        read_threshold(options, ["person"])


@pytest.mark.parametrize("options", ["person,city", "person, city", "a,b,c"])
def test_labels_written_as_one_are_told(options: str) -> None:
    """A comma parts no labels, and a label with one is hardly meant."""
    with pytest.raises(CommandError, match="-l "):
        read_labels([options], None)


def test_a_comma_may_be_in_a_description_or_in_json(tmp_path: Path) -> None:
    """So every label can be written."""
    (tmp_path / "a.txt").write_text("date: day, month or year\n")
    (tmp_path / "a.json").write_text('["food, drink"]')
    assert read_labels(None, tmp_path / "a.txt") == {"date": "day, month or year"}
    assert read_labels(None, tmp_path / "a.json") == ["food, drink"]
    (tmp_path / "a.txt").write_text("person, city\n")
    with pytest.raises(CommandError, match=r"line 1: 'person, city' would be one label"):
        read_labels(None, tmp_path / "a.txt")
