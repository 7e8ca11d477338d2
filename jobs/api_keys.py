"""The API keys file: who may call the gateway, as which tenant, in which role.

`create -> file (hashes only) -> KeyRing.verify(presented key) -> KeyRecord`. The plain key is seen once, by
whoever created it; the file keeps SHA-256 of it, which is enough for keys of 256 random bits. Writers take a
file lock and replace the file atomically, so a gateway that reads meanwhile sees the old file or the new one.
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
"""Longer credentials are refused unhashed."""
MAX_FILE_BYTES = 16 << 20
"""A larger file is refused unread: about 40,000 keys."""
RELOAD_EVERY_S = 1.0
ROTATION_OVERLAP = timedelta(hours=24)

Tenant = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class KeysError(Exception):
    """The keys file cannot be read, is not one, or does not hold the key that was asked for."""


class KeysStaleError(Exception):
    """The keys file has been unreadable for so long that none of the keys last read is accepted any more."""


class Role(StrEnum):
    """What a key may do; each role includes the ones before it."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """True if a key of this role may do what `other` may."""
        return self is other or _RANKS.index(self) >= _RANKS.index(other)


_RANKS = tuple(Role)


class KeyLimits(BaseModel):
    """What one key may do, where it differs from what the gateway's settings say of all; None: as they say."""

    model_config = ConfigDict(frozen=True, extra="allow")

    requests_per_s: int | None = Field(None, ge=1)
    submits_per_s: int | None = Field(None, ge=1)
    reads_per_s: int | None = Field(None, ge=1)
    documents_per_day: int | None = Field(None, ge=1)
    characters_per_day: int | None = Field(None, ge=1)
    open_jobs: int | None = Field(None, ge=1)
    stored_bytes: int | None = Field(None, ge=1)  # of the key's tenant, when this key adds to it


class KeyRecord(BaseModel):
    """One key as the file keeps it."""

    # A newer version's fields survive a write by this one.
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
        """True while the key is neither revoked nor past its expiry."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class _KeysFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    version: Literal[1] = 1
    keys: tuple[KeyRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `key` is the plain secret and cannot be had again."""

    key_id: str
    key: str
    tenant: str
    role: Role
    expires_at: datetime | None


def create_key(
    path: Path,
    *,
    tenant: str,
    role: Role | str,
    name: str = "",
    expires_at: datetime | None = None,
    limits: Mapping[str, int | None] | None = None,
) -> NewKey:
    """Make a key and add it to the file, which is made, mode 600, if it is not there.

    Args:
        path: the file.
        tenant: whose key it is.
        role: what it may do.
        name: a word to know it by.
        expires_at: when it ends; None for never.
        limits: fields of `KeyLimits`.

    Raises:
        KeysError: the file is damaged, or the tenant's name, role, expiry or limits are not valid.
    """
    with _editing(path) as keys:
        new, record = _make(tenant, role, name, expires_at, limits or {})
        keys.append(record)
    return new


def list_keys(path: Path) -> tuple[KeyRecord, ...]:
    """Every key of the file, revoked and expired ones too, oldest first.

    Raises:
        KeysError: the file is missing or damaged.
    """
    return _read(path)


def rotate_key(path: Path, key_id: str, *, overlap: timedelta = ROTATION_OVERLAP) -> NewKey:
    """Make a successor of a key (same tenant, role, name, limits) and let the old one end after `overlap`.

    The successor lives as long as the old key was made for, or for ever. An expiry that comes sooner than
    the overlap stays.

    Raises:
        KeysError: no usable key has this id, or the file is damaged.
    """
    now = _now()
    with _editing(path) as keys:
        position = _position(keys, key_id)
        old = keys[position]
        if not old.is_usable(now):
            raise KeysError(f"key {key_id} is revoked or expired; create a new one")
        lifetime = None if old.expires_at is None else now + (old.expires_at - old.created_at)
        new, record = _make(old.tenant, old.role, old.name, lifetime, old.limits.model_dump())
        end = now + overlap
        keys[position] = old.model_copy(update={"expires_at": min(end, old.expires_at or end)})
        keys.append(record)
    return new


def revoke_key(path: Path, key_id: str) -> KeyRecord:
    """End a key now; running gateways follow within two seconds. Repeating it changes nothing.

    Raises:
        KeysError: no key has this id, or the file is damaged.
    """
    with _editing(path) as keys:
        position = _position(keys, key_id)
        if keys[position].revoked_at is None:
            keys[position] = keys[position].model_copy(update={"revoked_at": _now()})
        return keys[position]


class KeyRing:
    """The usable keys of a file, kept current while the process runs.

    Not for several threads at once. A file that becomes unreadable or damaged later leaves the last good keys in
    force for `max_stale_s`, so that an edit that is not finished locks nobody out; then every key is refused, for a
    key that was revoked in the meantime would still open the door.

    Args:
        path: the keys file.
        max_stale_s: how long the last good keys stay in force (seconds); 0: as long as the process runs.
        clock: monotonic seconds, for the reload interval.

    Raises:
        KeysError: the file is missing or damaged at the start.
    """

    def __init__(self, path: Path, *, max_stale_s: float = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._max_stale_s = max_stale_s
        self._clock = clock
        self._looked_at = clock()
        self._signature = _signature(path)
        self._by_hash = {record.sha256: record for record in _read(path)}
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
        return self.find(_digest(presented), now)

    def find(self, sha256: str, now: datetime | None = None) -> KeyRecord | None:
        """Return the record of the key with this hash, or None if it is unknown, revoked or expired.

        Raises:
            KeysStaleError: the file has been unreadable for too long.
        """
        self.refresh()
        if self._closed:
            raise KeysStaleError(self._reason)
        # The look-up's timing tells about a hash, which nobody can choose; the comparison is constant-time.
        record = self._by_hash.get(sha256)
        if record is None or not hmac.compare_digest(record.sha256, sha256):
            return None
        return record if record.is_usable(now or _now()) else None

    @property
    def stale_s(self) -> float:
        """How long the file has been unreadable (seconds); 0 while it can be read."""
        return 0.0 if self._bad_since is None else self._clock() - self._bad_since

    @property
    def readable(self) -> bool:
        """True if the file could be read when it was last looked at."""
        return self._bad_since is None

    def refresh(self) -> None:
        """Read the file again if it has changed, once in `RELOAD_EVERY_S` at most."""
        now = self._clock()
        if now - self._looked_at < RELOAD_EVERY_S:
            return
        self._looked_at = now
        signature = _signature(self._path)
        if signature is None or signature != self._signature:
            self._reload(signature)
        if not self._closed and self._max_stale_s and self.stale_s >= self._max_stale_s:
            self._closed = True
            log.error("keys.closed", extra={"reason": self._reason, "stale_s": round(self.stale_s)})

    def _reload(self, signature: tuple[int, ...] | None) -> None:
        try:
            self._by_hash = {record.sha256: record for record in _read(self._path)}
        except KeysError as error:
            # A file that was not read at all may be readable at the next look without having changed.
            self._signature = None if isinstance(error.__cause__, OSError) else signature
            if self._bad_since is None:
                self._bad_since = self._clock()
            if str(error) != self._reason:
                self._reason = str(error)
                log.warning("keys.reload_failed", extra={"reason": self._reason})
        else:
            self._signature, self._bad_since, self._reason, self._closed = signature, None, "", False
            log.info("keys.reloaded", extra={"keys": len(self._by_hash)})


def _make(
    tenant: str, role: Role | str, name: str, expires_at: datetime | None, limits: Mapping[str, Any]
) -> tuple[NewKey, KeyRecord]:
    now = _now()
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    if expires_at is not None and expires_at.tzinfo is not None and expires_at <= now:
        raise KeysError("the expiry lies in the past")
    try:
        record = KeyRecord(
            key_id=f"key_{secrets.token_hex(6)}",
            sha256=_digest(key),
            tenant=tenant,
            role=Role(role),
            name=name,
            created_at=now,
            expires_at=expires_at,
            limits=KeyLimits(**limits),
        )
    except ValueError as error:
        raise KeysError(_explain(error)) from error
    return NewKey(record.key_id, key, record.tenant, record.role, record.expires_at), record


def _explain(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _position(keys: list[KeyRecord], key_id: str) -> int:
    for position, record in enumerate(keys):
        if record.key_id == key_id:
            return position
    raise KeysError(f"no key has the id {key_id}")


@contextmanager
def _editing(path: Path) -> Iterator[list[KeyRecord]]:
    """The file's keys to change in place; written back, under the lock, if the block does not raise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = list(_read(path)) if path.exists() else []
        yield keys
        _write(path, _KeysFile(keys=tuple(keys)))
    finally:
        os.close(lock)


def _read(path: Path) -> tuple[KeyRecord, ...]:
    try:
        content = _read_bytes(path)
    except OSError as error:
        raise KeysError(f"cannot read the keys file {path}: {error.strerror}") from error
    try:
        records = _KeysFile.model_validate_json(content).keys
    except ValidationError as error:
        # The chained error would quote the file's content, hashes included.
        raise KeysError(f"{path} is not a keys file: {_explain(error)}") from None
    for name in ("key_id", "sha256"):
        values = [getattr(record, name) for record in records]
        if len(set(values)) < len(values):
            # Which of the two counts would be chance, and one of them may be revoked.
            raise KeysError(f"{path} holds two keys with the same {name}; remove one")
    return records


def _read_bytes(path: Path) -> bytes:
    """Return the file's content; never waits, as opening a pipe would."""
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


def _write(path: Path, content: _KeysFile) -> None:
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


def _signature(path: Path) -> tuple[int, ...] | None:
    """Return what changes with the file, also when only its mode or the link that leads to it does."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC)
