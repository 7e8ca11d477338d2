"""Folders of the cache are complete or absent."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from worker.model.sources.cached_folders import ensure_folder, replace_folder
from worker.model.sources.checksums import write_manifest


class Filler:
    """Fills folders with one file and its manifest; the file has the number of the call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "file").write_text(str(self.calls))
        write_manifest(folder)


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    """With the folders around it; nothing partial stays next to it."""
    fill, folder = Filler(), tmp_path / "cache" / "of" / "models"
    ensure_folder(folder, fill)
    ensure_folder(folder, fill)
    assert (fill.calls, (folder / "file").read_text()) == (1, "1")
    assert {path.name for path in folder.parent.iterdir()} <= {"models", "models.lock"}


@pytest.mark.parametrize("damage", [lambda file: file.write_text("x"), Path.unlink])
def test_a_damaged_folder_is_made_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """Its manifest decides, or the caller does."""
    fill, folder = Filler(), tmp_path / "model"
    ensure_folder(folder, fill)
    damage(folder / "file")
    ensure_folder(folder, fill)
    assert (folder / "file").read_text() == "2"
    ensure_folder(folder, fill, lambda existing: existing != folder)
    assert (folder / "file").read_text() == "3"


def test_a_failure_leaves_no_folder(tmp_path: Path) -> None:
    """Neither the files that were there already, nor an earlier folder that was to be replaced."""

    def fail(folder: Path) -> None:
        (folder / "file").touch()
        raise ValueError("the disk is full")

    (tmp_path / "model").mkdir()
    (tmp_path / "model.partial").mkdir()
    (tmp_path / "model.partial" / "of a process that was killed").touch()
    with pytest.raises(ValueError, match="full"):
        replace_folder(tmp_path / "model", fail)
    assert list(tmp_path.iterdir()) == []


def test_of_many_at_once_one_makes_it(tmp_path: Path) -> None:
    """The others wait for it, and find it valid."""
    fill, ready = Filler(), Barrier(4)

    def ensure(_: int) -> str:
        ready.wait()
        ensure_folder(tmp_path / "model", fill)
        return (tmp_path / "model" / "file").read_text()

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(ensure, range(4))] == ["1"] * 4
