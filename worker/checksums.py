"""A folder's files by SHA-256, and a list of them beside them that tells later whether they still are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

MANIFEST = "gleaner-manifest.json"


def hashes(folder: Path, suffixes: Collection[str] = ()) -> dict[str, str]:
    """SHA-256 in hex of each file by its path in the folder; only of files that end so, if endings are given."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST and (not suffixes or path.suffix in suffixes):
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def seal(folder: Path, suffixes: Collection[str] = ()) -> None:
    """Write the list."""
    (folder / MANIFEST).write_text(json.dumps(hashes(folder, suffixes)), encoding="utf-8")


def sound(folder: Path, suffixes: Collection[str] = ()) -> bool:
    """Whether there is a list and the files are those on it, unchanged."""
    try:
        expected = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(expected and expected == hashes(folder, suffixes))
