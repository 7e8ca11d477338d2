"""The data directory: its lock, its private files, its admin key."""

from __future__ import annotations

import os
from pathlib import Path

from gleaner.localstack.datadir import DataDir, Lock, write_private
from jobs.api_keys import KeyRing, Role, list_keys, revoke_key


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    """A second holder is refused until the first lets go."""
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
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
    directory = DataDir(tmp_path)
    directory.ensure_admin_key()
    first = directory.admin_key.read_text()
    directory.ensure_admin_key()
    assert directory.admin_key.read_text() == first

    [record] = list_keys(directory.keys_file)
    assert record.role is Role.ADMIN
    revoke_key(directory.keys_file, record.key_id)
    directory.ensure_admin_key()
    assert directory.admin_key.read_text() != first
    assert KeyRing(directory.keys_file).verify(directory.admin_key.read_text().strip()) is not None
