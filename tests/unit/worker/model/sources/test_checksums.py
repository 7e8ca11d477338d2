"""A folder's manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.model.sources.checksums import MANIFEST, hash_folder, is_intact, read_manifest, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a manifest."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "weights").write_bytes(b"weights")
    (tmp_path / "config.json").write_bytes(b"{}")
    write_manifest(tmp_path, {"pytorch_model.bin": "abc"})
    return tmp_path


def test_a_manifest_has_every_file_and_not_itself(folder: Path) -> None:
    """By its path, with its SHA-256; the sources are not files of the folder."""
    assert read_manifest(folder) == hash_folder(folder)
    assert set(read_manifest(folder)) == {"a/weights", "config.json"}
    assert read_manifest(folder)["a/weights"] == hashlib.sha256(b"weights").hexdigest()
    assert is_intact(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "a" / "weights").write_bytes(b"weightz"),
        lambda folder: (folder / "a" / "weights").unlink(),
        lambda folder: (folder / "more").touch(),
        lambda folder: (folder / MANIFEST).unlink(),
        lambda folder: (folder / MANIFEST).write_text("[]"),
        lambda folder: (folder / MANIFEST).write_text('{"a'),
    ],
)
def test_any_change_is_noticed(folder: Path, damage: Callable[[Path], object]) -> None:
    """Of a file, of the files that there are, or of the manifest."""
    damage(folder)
    assert not is_intact(folder)
