"""The data directory of a local stack: which file is where, who may read it, and who holds it."""

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
"""Bytes of a unix socket's path, its closing NUL included (sockaddr_un)."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """Paths below one directory.

    Attributes:
        root: the directory; absolute.
    """

    root: Path

    @classmethod
    def at(cls, path: Path) -> DataDir:
        """The directory that a user named, `~` allowed."""
        return cls(path.expanduser().absolute())

    @property
    def admin_key(self) -> Path:
        """The plain admin key, mode 600."""
        return self.root / "admin-key"

    @property
    def keys_file(self) -> Path:
        """The hashed keys."""
        return self.root / "keys.json"

    @property
    def redact_key(self) -> Path:
        """The secret behind the tokens of redacted texts, mode 600."""
        return self.root / "redact-key"

    @property
    def stack_file(self) -> Path:
        """Where everything is, while it runs; mode 600."""
        return self.root / "stack.json"

    @property
    def data(self) -> Path:
        """The embedded server's append-only file."""
        return self.root / "data"

    @property
    def logs(self) -> Path:
        """A log a process."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Sockets, locks and generated configuration."""
        return self.root / "run"

    @property
    def server_socket(self) -> Path | None:
        """The embedded server's socket, or None where its path would be too long for one."""
        path = self.run / "valkey.sock"
        return path if len(bytes(path)) < SOCKET_PATH_LIMIT else None

    @property
    def server_lock(self) -> Path:
        """Held by the embedded server itself, so that no second one opens its file."""
        return self.run / "server.lock"

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.logs / f"{name}.log"

    def create(self) -> None:
        """Make the directories, for the owner alone."""
        for path in (self.root, self.data, self.logs, self.run):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read_stack(self) -> dict[str, Any] | None:
        """What stack.json says, or None if no stack is ready here."""
        try:
            content: dict[str, Any] = json.loads(self.stack_file.read_text())
        except (OSError, ValueError):
            return None
        return content

    def ensure_redact_key(self) -> str:
        """The secret behind tokens, made where there is none: with another one no token would be found again."""
        if not self.redact_key.exists():
            write_private(self.redact_key, secrets.token_urlsafe(32) + "\n")
        return self.redact_key.read_text().strip()

    def ensure_admin_key(self, create: Callable[[Path], str], is_good: Callable[[Path, str], bool]) -> None:
        """Have an admin key that works.

        Args:
            create: adds a key to the keys file and returns it.
            is_good: whether the keys file (there or not) knows a key.
        """
        there = self.keys_file.exists() and self.admin_key.exists()
        if not there or not is_good(self.keys_file, self.admin_key.read_text().strip()):
            write_private(self.admin_key, create(self.keys_file) + "\n")


class Lock:
    """A file held by at most one process, which loses it by ending, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take it if it is free; says whether that worked."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def acquire_or_fail(self, root: Path) -> None:
        """Take it.

        Raises:
            AlreadyRunning: another process holds it.
        """
        if not self.acquire():
            raise AlreadyRunning(f"a stack is running in {root} already; stop it, or choose another --data-dir")

    def release(self) -> None:
        """Let go. Harmless if not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
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
    """Say where everything is."""
    write_private(directory.stack_file, json.dumps(content, indent=2) + "\n")
