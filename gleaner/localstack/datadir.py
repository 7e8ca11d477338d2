"""The data directory of a local stack: its files, their modes, and its lock."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gleaner.localstack.errors import AlreadyRunning

DEFAULT: Final = Path("~/.gleaner")

SOCKET_PATH_LIMIT: Final = 108
"""Maximum size of a unix socket's path in bytes, including the closing NUL (sockaddr_un)."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """Paths below one directory.

    Attributes:
        root: the directory; absolute.
    """

    root: Path

    @classmethod
    def from_path(cls, path: Path) -> DataDir:
        """Return the directory that a user named; `~` is expanded."""
        return cls(path.expanduser().absolute())

    @property
    def admin_key(self) -> Path:
        """File with the plain admin key, mode 600."""
        return self.root / "admin-key"

    @property
    def keys_file(self) -> Path:
        """File with the hashed keys."""
        return self.root / "keys.json"

    @property
    def redact_key(self) -> Path:
        """File with the secret for the tokens of redacted texts, mode 600."""
        return self.root / "redact-key"

    @property
    def stack_file(self) -> Path:
        """File with the URLs, ports and process ids of the running stack, mode 600."""
        return self.root / "stack.json"

    @property
    def data(self) -> Path:
        """Folder of the embedded server's append-only file."""
        return self.root / "data"

    @property
    def logs(self) -> Path:
        """Folder of logs, one per process."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Folder of sockets, locks and generated configuration."""
        return self.root / "run"

    @property
    def server_socket(self) -> Path | None:
        """Socket of the embedded server, or None if the path is too long for one."""
        path = self.run / "valkey.sock"
        return path if len(bytes(path)) < SOCKET_PATH_LIMIT else None

    @property
    def server_lock(self) -> Path:
        """Lock file of the embedded server, so that no second one opens its data."""
        return self.run / "server.lock"

    def log_path(self, name: str) -> Path:
        """Return the path of a process's log."""
        return self.logs / f"{name}.log"

    def create_folders(self) -> None:
        """Create the folders, readable by the owner only."""
        for path in (self.root, self.data, self.logs, self.run):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read_stack(self) -> dict[str, Any] | None:
        """Return the content of stack.json, or None if no stack is ready here."""
        try:
            content: dict[str, Any] = json.loads(self.stack_file.read_text())
        except (OSError, ValueError):
            return None
        return content

    def ensure_redact_key(self) -> str:
        """Return the secret for tokens, created only once: tokens of another secret would not match."""
        if not self.redact_key.exists():
            write_private(self.redact_key, secrets.token_urlsafe(32) + "\n")
        return self.redact_key.read_text().strip()

    def ensure_admin_key(self, create: Callable[[Path], str], is_good: Callable[[Path, str], bool]) -> None:
        """Create an admin key unless there is one that works.

        Args:
            create: adds a key to the keys file and returns it.
            is_good: returns True if the keys file has the key.
        """
        exists = self.keys_file.exists() and self.admin_key.exists()
        if not exists or not is_good(self.keys_file, self.admin_key.read_text().strip()):
            write_private(self.admin_key, create(self.keys_file) + "\n")


class Lock:
    """A file lock held by at most one process; the kernel releases it when the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Acquire the lock if it is free; return True on success."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def acquire_or_fail(self, root: Path) -> None:
        """Acquire the lock.

        Raises:
            AlreadyRunning: another process holds it.
        """
        if not self.acquire():
            raise AlreadyRunning(f"a stack is already running in {root}; stop it, or choose another --data-dir")

    def release(self) -> None:
        """Release the lock. Does nothing if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def write_private(path: Path, content: str) -> None:
    """Write a file atomically, readable by its owner only."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_stack(directory: DataDir, content: Mapping[str, Any]) -> None:
    """Write stack.json."""
    write_private(directory.stack_file, json.dumps(content, indent=2) + "\n")
