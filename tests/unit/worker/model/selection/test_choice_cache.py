"""The cached choice of a runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import SPEC
from worker.model.collate import Layout
from worker.model.description import ModelDescription
from worker.model.runtimes import Candidate
from worker.model.selection.choice_cache import CachedChoice, RuntimeRequest, load_choice, read_choice, write_choice

REQUEST = RuntimeRequest("cpu", "auto", "auto", threads=2)
LAYOUT = Layout((1,), (2,), pad_id=0, pad_left=False, longest=512, pooling="first", span_width=12)
CHOICE = CachedChoice(Candidate("onnx", "fp32"), ModelDescription(SPEC, LAYOUT, False, r"\w+", "{}"))


def find_file(folder: Path) -> Path:
    """Return the only file of a folder."""
    [file] = folder.iterdir()
    return file


def test_a_choice_is_read_as_it_was_written(tmp_path: Path) -> None:
    """For an equal request; nothing but the choice stays in the folder."""
    assert read_choice(tmp_path, REQUEST) is None
    write_choice(tmp_path, REQUEST, CHOICE)
    assert read_choice(tmp_path, RuntimeRequest("cpu", "auto", "auto", threads=2)) == CHOICE
    assert find_file(tmp_path).suffix == ".json"


@pytest.mark.parametrize(
    "change",
    [{"threads": 4}, {"device": "cuda"}, {"precision": "bf16"}, {"runtime": "torch"}, {"max_row_tokens": 8}],
)
def test_another_request_has_a_choice_of_its_own(tmp_path: Path, change: dict[str, Any]) -> None:
    """The fastest runtime for one need not be the fastest for the other."""
    write_choice(tmp_path, REQUEST, CHOICE)
    assert read_choice(tmp_path, replace(REQUEST, **change)) is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"0" * 64 + b"\n{}"])
def test_a_damaged_choice_is_none(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The runtime is then selected again, and the log says why that took longer."""
    write_choice(tmp_path, REQUEST, CHOICE)
    find_file(tmp_path).write_bytes(damage)
    assert read_choice(tmp_path, REQUEST) is None
    find_file(tmp_path).write_bytes(damage + b"more")
    assert read_choice(tmp_path, REQUEST) is None
    assert "runtime.choice_unusable" in caplog.messages


def test_a_choice_without_its_export_is_not_loaded(tmp_path: Path) -> None:
    """Nor is a file that cannot be written an error: the next start selects again."""
    write_choice(tmp_path, REQUEST, CHOICE)
    assert load_choice(tmp_path, REQUEST) is None
    write_choice(tmp_path / "missing", REQUEST, CHOICE)
