"""Labels and thresholds from options and files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gleaner.cli.asking import read_labels, read_threshold
from gleaner.cli.failures import CommandError


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.txt", "\ufeff# people\nperson\n\n  city \nperson\n", ["x", "person", "city"]),
        ("a.txt", "city: a town: any\nratio 1:2\n", {"x": None, "city": "a town: any", "ratio 1:2": None}),
        ("a.json", '["person", "city"]', ["x", "person", "city"]),
        ("a.json", '{"city": "a town", "person": null}', {"x": None, "city": "a town", "person": None}),
    ],
)
def test_labels_from_a_file(tmp_path: Path, name: str, content: str, found: Any) -> None:
    """One a line, with a description after a colon and a space, or JSON; those of the command line come first."""
    (tmp_path / name).write_text(content)
    assert read_labels(["x"], tmp_path / name) == found


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "# none\n", "no label in it"),
        ("a.json", "{", "write a label a line, or a JSON list or object"),
        ("a.json", '{"a": 1}', "neither labels nor"),
        ("no.txt", None, "No such file"),
    ],
)
def test_a_file_that_holds_no_labels_is_told(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    """With its name and what to do."""
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(CommandError, match=f"{name}.*{said}"):
        read_labels(None, tmp_path / name)


def test_no_labels_are_no_labels() -> None:
    """JSON lines may bring their own."""
    assert read_labels(None, None) is None


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([], None),
        (["0.4"], 0.4),
        (["person=0.6", "a=b=0.7"], {"person": 0.6, "a=b": 0.7}),
        (["0.4", "person=0.6"], {"person": 0.6, "city": 0.4, "a=b": 0.4}),
    ],
)
def test_thresholds(given: list[str], found: float | Mapping[str, float] | None) -> None:
    """One for all, some of their own, or both: then the rest have the one for all."""
    assert read_threshold(given, ["person", "city", "a=b"]) == found


@pytest.mark.parametrize("given", [["x"], ["1.5"], ["person="], ["nan"], ["tree=0.5"]])
def test_what_is_no_threshold_is_told(given: list[str]) -> None:
    """A score out of 0..1, or of a label that nobody looks for."""
    with pytest.raises(CommandError, match="--threshold"):
        read_threshold(given, ["person"])
