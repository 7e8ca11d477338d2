"""SHA-256 of a folder's files, and a manifest of them in the folder, against which they are checked later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

MANIFEST = "gleaner-manifest.json"
SOURCES = "made from"
"""Manifest key for the files that the listed ones were made from."""


def hash_file(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_folder(folder: Path) -> dict[str, str]:
    """Return the SHA-256 in hex of every file in a folder by its path in it, without the manifest."""
    return hash_files(
        {
            path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.is_file() and path.name != MANIFEST
        }
    )


def hash_files(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the SHA-256 in hex of each file by name."""
    return {name: hash_file(path) for name, path in sorted(files.items())}


def write_manifest(folder: Path, sources: Mapping[str, str] | None = None) -> None:
    """Write the manifest of a folder.

    Args:
        folder: the folder, with all its files.
        sources: SHA-256 of the files that these were made from, by name; recorded in the manifest.
    """
    listed: dict[str, object] = dict(hash_folder(folder))
    if sources:
        listed[SOURCES] = dict(sources)
    (folder / MANIFEST).write_text(json.dumps(listed), encoding="utf-8")


def is_intact(folder: Path) -> bool:
    """Return whether there is a manifest, and the files are exactly those in it, unchanged."""
    expected = read_manifest(folder)
    return bool(expected and expected == hash_folder(folder))


def read_manifest(folder: Path) -> dict[str, str]:
    """Return the SHA-256 in hex of each file in a folder's manifest; {} without one. The files are not read."""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(listed, dict):
        return {}
    listed.pop(SOURCES, None)
    return listed
