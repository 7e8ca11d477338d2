"""The API keys file: the keys that may call the gateway, with tenant and role.

`create_key -> file (hashes only) -> KeyRing.verify(presented key) -> KeyRecord`. The plain key is shown once, to
its creator; the file stores its SHA-256, which is enough for keys of 256 random bits. Writers take a file lock and
replace the file atomically, so that a gateway reads either the old file or the new one.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

log = logging.getLogger(__name__)

KEY_PREFIX = "gl_"
MAX_KEY_CHARACTERS = 256
"""Longer credentials are rejected without hashing."""
MAX_FILE_BYTES = 16 << 20
"""A larger file is rejected unread: about 40,000 keys."""
RELOAD_EVERY_S = 1.0
ROTATION_OVERLAP = timedelta(hours=24)

Tenant = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class KeysError(Exception):
    """The keys file cannot be read, is invalid, or does not contain the requested key."""


class KeysStaleError(Exception):
    """The keys file has been unreadable for too long: the keys last read are no longer accepted."""


class Role(StrEnum):
    """Permissions of a key; each role includes the ones before it."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Return True if a key of this role may do all that `other` may."""
        return self is other or _RANKS.index(self) >= _RANKS.index(other)


_RANKS = tuple(Role)


class KeyLimits(BaseModel):
    """Limits of one key that override the gateway's settings; None: as in the settings."""

    model_config = ConfigDict(frozen=True, extra="allow")

    requests_per_s: int | None = Field(None, ge=1)
    submits_per_s: int | None = Field(None, ge=1)
    reads_per_s: int | None = Field(None, ge=1)
    documents_per_day: int | None = Field(None, ge=1)
    characters_per_day: int | None = Field(None, ge=1)
    open_jobs: int | None = Field(None, ge=1)
    stored_bytes: int | None = Field(None, ge=1)  # of the key's tenant, checked when this key submits


class KeyRecord(BaseModel):
    """One key as stored in the file."""

    # Fields of newer versions survive a write by this one.
    model_config = ConfigDict(frozen=True, extra="allow")

    key_id: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tenant: Tenant
    role: Role
    name: str = ""
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None
    limits: KeyLimits = KeyLimits()

    def is_usable(self, now: datetime) -> bool:
        """Return True if the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class _KeysFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    version: Literal[1] = 1
    keys: tuple[KeyRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class NewKey:
    """A newly created key. `key` is the plain secret, which cannot be shown again."""

    key_id: str
    key: str
    tenant: str
    role: Role
    expires_at: datetime | None


def create_key(  # noqa: PLR0913  # the fields of a record
    path: Path,
    *,
    tenant: str,
    role: Role | str,
    name: str = "",
    expires_at: datetime | None = None,
    limits: Mapping[str, int | None] | None = None,
) -> NewKey:
    """Create a key and add it to the file, which is created with mode 600 if it does not exist.

    Args:
        path: the keys file.
        tenant: the key's tenant.
        role: the key's role.
        name: a name for people to recognise it.
        expires_at: time of expiry; None for never.
        limits: fields of `KeyLimits`.

    Raises:
        KeysError: the file is damaged, or the tenant's name, role, expiry or limits are not valid.
    """
    with _open_for_edit(path) as keys:
        new, record = _build_key(tenant, role, name, expires_at, limits or {})
        keys.append(record)
    return new


def list_keys(path: Path) -> tuple[KeyRecord, ...]:
    """Return every key of the file, including revoked and expired ones, oldest first.

    Raises:
        KeysError: the file is missing or damaged.
    """
    try:
        content = _read_bytes(path)
    except OSError as error:
        raise KeysError(f"cannot read the keys file {path}: {error.strerror}") from error
    try:
        records = _KeysFile.model_validate_json(content).keys
    except ValidationError as error:
        # A chained error would quote the file's content, including hashes.
        raise KeysError(f"{path} is not a keys file: {_describe_error(error)}") from None
    for name in ("key_id", "sha256"):
        values = [getattr(record, name) for record in records]
        if len(set(values)) < len(values):
            # One of the two may be revoked, and which one counts would be chance.
            raise KeysError(f"{path} holds two keys with the same {name}; remove one")
    return records


def rotate_key(path: Path, key_id: str, *, overlap: timedelta = ROTATION_OVERLAP) -> NewKey:
    """Create a successor of a key (same tenant, role, name, limits); the old key expires after `overlap`.

    The successor's lifetime is that of the old key, or unlimited. An earlier expiry of the old key stays.

    Raises:
        KeysError: no usable key has this id, or the file is damaged.
    """
    now = _utc_now()
    with _open_for_edit(path) as keys:
        position = _find_position(keys, key_id)
        old = keys[position]
        if not old.is_usable(now):
            raise KeysError(f"key {key_id} is revoked or expired; create a new one")
        lifetime = None if old.expires_at is None else now + (old.expires_at - old.created_at)
        new, record = _build_key(old.tenant, old.role, old.name, lifetime, old.limits.model_dump())
        end = now + overlap
        keys[position] = old.model_copy(update={"expires_at": min(end, old.expires_at or end)})
        keys.append(record)
    return new


def revoke_key(path: Path, key_id: str) -> KeyRecord:
    """Revoke a key; running gateways reject it within two seconds. Repeating it changes nothing.

    Raises:
        KeysError: no key has this id, or the file is damaged.
    """
    with _open_for_edit(path) as keys:
        position = _find_position(keys, key_id)
        if keys[position].revoked_at is None:
            keys[position] = keys[position].model_copy(update={"revoked_at": _utc_now()})
        return keys[position]


class KeyRing:
    """The usable keys of a file, reloaded when the file changes.

    Not thread-safe. If the file becomes unreadable or damaged, the keys last read stay valid for `max_stale_s`, so
    that an unfinished edit locks nobody out; then every key is rejected, since one may have been revoked meanwhile.

    Args:
        path: the keys file.
        max_stale_s: time for which the keys last read stay valid (seconds); 0: as long as the process runs.
        clock: monotonic seconds, for the reload interval.

    Raises:
        KeysError: the file is missing or damaged at the start.
    """

    def __init__(self, path: Path, *, max_stale_s: float = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._max_stale_s = max_stale_s
        self._clock = clock
        self._checked_at = clock()
        self._signature = _file_signature(path)
        self._by_hash = {record.sha256: record for record in list_keys(path)}
        self._bad_since: float | None = None
        self._reason = ""
        self._closed = False

    def verify(self, presented: str, now: datetime | None = None) -> KeyRecord | None:
        """Return the record of a presented key, or None if it is unknown, revoked or expired.

        Raises:
            KeysStaleError: the file has been unreadable for too long.
        """
        if len(presented) > MAX_KEY_CHARACTERS or not presented.isascii():
            return None
        return self.find(_hash_key(presented), now)

    def find(self, sha256: str, now: datetime | None = None) -> KeyRecord | None:
        """Return the record of the key with this hash, or None if it is unknown, revoked or expired.

        Raises:
            KeysStaleError: the file has been unreadable for too long.
        """
        self.refresh()
        if self._closed:
            raise KeysStaleError(self._reason)
        # The lookup's timing depends on a hash, which no caller can choose; the comparison is constant-time.
        record = self._by_hash.get(sha256)
        if record is None or not hmac.compare_digest(record.sha256, sha256):
            return None
        return record if record.is_usable(now or _utc_now()) else None

    @property
    def stale_s(self) -> float:
        """Seconds for which the file has been unreadable; 0 if it is readable."""
        return 0.0 if self._bad_since is None else self._clock() - self._bad_since

    @property
    def readable(self) -> bool:
        """True if the file could be read at the last check."""
        return self._bad_since is None

    def refresh(self) -> None:
        """Reload the file if it has changed, at most once per `RELOAD_EVERY_S`."""
        now = self._clock()
        if now - self._checked_at < RELOAD_EVERY_S:
            return
        self._checked_at = now
        signature = _file_signature(self._path)
        if signature is None or signature != self._signature:
            self._reload(signature)
        if not self._closed and self._max_stale_s and self.stale_s >= self._max_stale_s:
            self._closed = True
            log.error("keys.closed", extra={"reason": self._reason, "stale_s": round(self.stale_s)})

    def _reload(self, signature: tuple[int, ...] | None) -> None:
        try:
            self._by_hash = {record.sha256: record for record in list_keys(self._path)}
        except KeysError as error:
            # A file that could not be opened may become readable without a change.
            self._signature = None if isinstance(error.__cause__, OSError) else signature
            if self._bad_since is None:
                self._bad_since = self._clock()
            if str(error) != self._reason:
                self._reason = str(error)
                log.warning("keys.reload_failed", extra={"reason": self._reason})
        else:
            self._signature, self._bad_since, self._reason, self._closed = signature, None, "", False
            log.info("keys.reloaded", extra={"keys": len(self._by_hash)})


def _build_key(
    tenant: str, role: Role | str, name: str, expires_at: datetime | None, limits: Mapping[str, Any]
) -> tuple[NewKey, KeyRecord]:
    now = _utc_now()
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    if expires_at is not None and expires_at.tzinfo is not None and expires_at <= now:
        raise KeysError("the expiry is in the past")
    try:
        record = KeyRecord(
            key_id=f"key_{secrets.token_hex(6)}",
            sha256=_hash_key(key),
            tenant=tenant,
            role=Role(role),
            name=name,
            created_at=now,
            expires_at=expires_at,
            limits=KeyLimits(**limits),
        )
    except ValueError as error:
        raise KeysError(_describe_error(error)) from error
    return NewKey(record.key_id, key, record.tenant, record.role, record.expires_at), record


def _describe_error(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _find_position(keys: list[KeyRecord], key_id: str) -> int:
    for position, record in enumerate(keys):
        if record.key_id == key_id:
            return position
    raise KeysError(f"no key has the id {key_id}")


@contextmanager
def _open_for_edit(path: Path) -> Iterator[list[KeyRecord]]:
    """Yield the file's keys to change in place; write them, under the lock, if the block does not raise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = list(list_keys(path)) if path.exists() else []
        yield keys
        _write_file(path, _KeysFile(keys=tuple(keys)))
    finally:
        os.close(lock)


def _read_bytes(path: Path) -> bytes:
    """Return the file's content without blocking, as opening a pipe would."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise KeysError(f"{path} is not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_FILE_BYTES:
        raise KeysError(f"the keys file {path} is larger than {MAX_FILE_BYTES >> 20} MiB")
    return content


def _write_file(path: Path, content: _KeysFile) -> None:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _file_signature(path: Path) -> tuple[int, ...] | None:
    """Return values that change with the file, its mode or the link that leads to it."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def _hash_key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _utc_now() -> datetime:
    return datetime.now(UTC)
