"""The data directory: its lock, its private files, its admin key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gleaner.localstack.datadir import DataDir, Lock, write_private
from gleaner.localstack.errors import AlreadyRunning


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    """A second holder is refused until the first lets go."""
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    first.acquire_or_fail(tmp_path)
    with pytest.raises(AlreadyRunning, match="--data-dir"):
        second.acquire_or_fail(tmp_path)
    first.release()
    second.acquire_or_fail(tmp_path)
    second.release()


def test_private_files_are_the_owners_alone(tmp_path: Path) -> None:
    """Mode 600 whatever the umask, and the old content is replaced whole."""
    old = os.umask(0)
    try:
        write_private(tmp_path / "f", "one")
        write_private(tmp_path / "f", "two")
    finally:
        os.umask(old)

    assert (tmp_path / "f").read_text() == "two"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_an_admin_key_that_no_longer_works_is_replaced(tmp_path: Path) -> None:
    """A key is made when there is none or the keys file does not know it any more, else kept."""
    directory = DataDir.from_path(tmp_path)
    new_keys = iter(["one", "two"])

    def create(keys_file: Path) -> str:
        keys_file.touch()
        return next(new_keys)

    directory.ensure_admin_key(create, lambda _file, _key: True)
    directory.ensure_admin_key(create, lambda _file, _key: True)
    assert directory.admin_key.read_text() == "one\n"

    directory.ensure_admin_key(create, lambda _file, key: key == "two")
    assert directory.admin_key.read_text() == "two\n"
