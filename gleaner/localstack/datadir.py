"""The data directory of a local stack: its files, their modes, and its lock."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any, Final

DEFAULT: Final = Path("~/.gleaner")

SOCKET_PATH_LIMIT: Final = 108
"""Maximum size of a unix socket's path in bytes, including the closing NUL (sockaddr_un)."""


class DataDir:
    """Paths below one directory.

    Attributes:
        root: the directory; absolute.
        admin_key: file with the plain admin key, mode 600.
        keys_file: file with the hashed keys.
        redact_key: file with the secret for the tokens of redacted texts, mode 600.
        stack_file: file with the URLs, ports and process ids of the running stack, mode 600.
        data: folder of the embedded server's append-only file.
        logs: folder of logs, one per process.
        run: folder of sockets, locks and generated configuration.
        server_lock: lock file of the embedded server, so that no second one opens its data.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.admin_key = self.root / "admin-key"
        self.keys_file = self.root / "keys.json"
        self.redact_key = self.root / "redact-key"
        self.stack_file = self.root / "stack.json"
        self.data, self.logs, self.run = self.root / "data", self.root / "logs", self.root / "run"
        self.server_lock = self.run / "server.lock"

    @property
    def server_socket(self) -> Path | None:
        """Socket of the embedded server, or None if the path is too long for one."""
        path = self.run / "valkey.sock"
        return path if len(bytes(path)) < SOCKET_PATH_LIMIT else None

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

    def ensure_admin_key(self) -> None:
        """Create an admin key unless there is one that works."""
        from jobs.api_keys import KeyRing, create_key  # of the service, which a client does without

        exists = self.keys_file.exists() and self.admin_key.exists()
        if not exists or KeyRing(self.keys_file).verify(self.admin_key.read_text().strip()) is None:
            new = create_key(self.keys_file, tenant="default", role="admin", name="local stack")
            write_private(self.admin_key, new.key + "\n")


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
