"""A folder's files by SHA-256, and a list of them beside them that tells later whether they still are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

MANIFEST = "gleaner-manifest.json"
SOURCES = "made from"
"""The key under which a list has the files that its own were made of."""


def hash_file(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 in hex of every file in a folder by its path in it, the list aside."""
    return hash_all(
        {
            path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.is_file() and path.name != MANIFEST
        }
    )


def hash_all(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the SHA-256 in hex of each file by its name here."""
    return {name: hash_file(path) for name, path in sorted(files.items())}


def seal(folder: Path, sources: Mapping[str, str] | None = None) -> None:
    """Write the list.

    Args:
        folder: whose files it lists.
        sources: SHA-256 of the files that these were made of, by name; kept with the list.
    """
    listed: dict[str, object] = dict(hashes(folder))
    if sources:
        listed[SOURCES] = dict(sources)
    (folder / MANIFEST).write_text(json.dumps(listed), encoding="utf-8")


def sound(folder: Path) -> bool:
    """Return whether there is a list and the files are those on it, all of them, unchanged."""
    expected = sealed(folder)
    return bool(expected and expected == hashes(folder))


def sealed(folder: Path) -> dict[str, str]:
    """Return the SHA-256 in hex of each file on a folder's list; of files in the folder nothing is read."""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(listed, dict):
        return {}
    listed.pop(SOURCES, None)
    return listed
