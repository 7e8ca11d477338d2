"""Folders in the model cache, each complete or absent, and made by one process at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from worker.model.sources.checksums import is_intact


def ensure_folder(folder: Path, fill: Callable[[Path], None], is_valid: Callable[[Path], bool] = is_intact) -> None:
    """Create a folder under a lock, unless there is a valid one.

    Args:
        folder: the folder.
        fill: puts its files into an empty folder; may raise, which leaves none.
        is_valid: returns whether an existing one can stay; by default it must match its manifest.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not is_valid(folder):
            replace_folder(folder, fill)


def replace_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Create a folder in the place of an earlier one; arguments as `ensure_folder`."""
    partial = folder.with_name(f"{folder.name}.partial")
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir()
    try:
        fill(partial)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
