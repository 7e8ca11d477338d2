"""Label sets: a tenant's named labels, stored once and named by jobs, in numbered versions that never change.

Each version is one sealed blob: the labels as JSON. A job gets a copy of them, so no job depends on a set's future.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.access.rate_limits import stored_quota_error
from gateway.errors import GatewayError
from jobs import ledger
from jobs.codec import Codec, CodecError
from jobs.ledger import AsyncLedger, associated_data, label_sets
from jobs.ledger.label_sets import LabelSetVersions, ListedLabelSet, NewVersion, StoredLabelSet
from jobs.ledger.outcomes import LabelSetOutcome
from jobs.tasks import Labels

NAME_PATTERN = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_REFERENCE = re.compile(rf"({NAME_PATTERN})(?:@([1-9][0-9]{{0,8}}))?")
_MAX_TRIES = 20
"""Writes of a new version until one is not overtaken; each time another writer succeeds."""
_INLINE_BYTES = 64 * 1024
"""Labels up to this size are decoded on the event loop."""

Reserve = Callable[[int], Awaitable[None]]
"""Reserves memory for this number of bytes, or raises `GatewayError`."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A job's `label_set`: a name, and the version if it is not the latest."""

    name: str
    version: int | None = None

    def __str__(self) -> str:
        """Return the reference as a job names it."""
        return self.name if self.version is None else f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class LabelSet:
    """A version of a label set.

    Attributes:
        stored: numbers of the set's versions that can be read.
        labels_json: label -> description or null, as JSON.
        created: time when this version was stored (UTC ms).
    """

    name: str
    version: int
    stored: range
    labels_json: bytes
    created: int

    @property
    def reference(self) -> str:
        """The version as a job names it."""
        return f"{self.name}@{self.version}"

    @property
    def labels(self) -> Labels:
        """The labels, decoded."""
        labels: Labels = orjson.loads(self.labels_json)
        return labels


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """The latest version after a PUT, its time (UTC ms), and whether the PUT made it."""

    versions: LabelSetVersions
    created: int
    is_new: bool


def parse_reference(value: Any) -> Reference | None:
    """Parse `name` or `name@version`; None if it is neither."""
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return match and Reference(match[1], int(match[2]) if match[2] else None)


class LabelSets:
    """Stores and reads label sets for tenants.

    Args:
        store: the ledger.
        codec: seals the labels.
    """

    def __init__(self, store: AsyncLedger, codec: Codec) -> None:
        self._store = store
        self._codec = codec

    async def put(self, tenant: str, name: str, labels: Labels, max_stored_bytes: int = 0) -> StoredVersion:
        """Store labels as the next version, unless they are the latest already.

        Raises:
            GatewayError: quota_exceeded; or storage_unavailable, if other writers are always faster.
        """
        labels_json = orjson.dumps(labels)
        for _ in range(_MAX_TRIES):
            latest = await self._store.run(label_sets.read_label_set(tenant, name))
            number = latest.versions.latest
            if await self._is_content(latest, _data(tenant, name, number), labels_json):
                return StoredVersion(latest.versions, latest.created, is_new=False)
            sealed = await asyncio.to_thread(self._codec.encode, labels_json, _data(tenant, name, number + 1))
            new = NewVersion(tenant, name, number, sealed, len(labels))
            reply = await self._store.run(label_sets.put_label_set(new, max_stored_bytes))
            match reply.outcome:
                case LabelSetOutcome.OK:
                    return StoredVersion(reply.versions, reply.created, is_new=True)
                case LabelSetOutcome.FULL:
                    detail = (
                        f"your tenant has {label_sets.MAX_LABEL_SETS} label sets, the maximum; delete one first"
                    )
                    raise GatewayError("quota_exceeded", detail)
                case LabelSetOutcome.STORED:
                    work = await self._store.run(ledger.read_open_work(tenant, ""))
                    raise stored_quota_error(work.stored_bytes, max_stored_bytes)
        detail = "the label set is being changed by other requests"
        raise GatewayError("storage_unavailable", detail, retry_after_s=1)

    async def get(self, tenant: str, reference: Reference, reserve: Reserve) -> LabelSet:
        """Return a version of a label set.

        Args:
            tenant: its owner.
            reference: names it.
            reserve: reserves memory for the labels before they are decoded.

        Raises:
            GatewayError: label_set_not_found, or raised by `reserve`.
        """
        stored = await self._store.run(label_sets.read_label_set(tenant, reference.name, reference.version))
        version = reference.version or stored.versions.latest
        if version not in stored.versions.stored:
            raise GatewayError("label_set_not_found", f"your tenant has no label set {reference}")
        packed = self._codec.unseal(stored.sealed, _data(tenant, reference.name, version))
        await reserve(packed.size)
        if packed.size <= _INLINE_BYTES:
            labels_json = self._codec.unpack(packed)
        else:
            labels_json = await asyncio.to_thread(self._codec.unpack, packed)
        return LabelSet(reference.name, version, stored.versions.stored, labels_json, stored.created)

    async def list_all(self, tenant: str) -> tuple[ListedLabelSet, ...]:
        """Return the tenant's label sets by name."""
        return await self._store.run(label_sets.list_label_sets(tenant))

    async def delete(self, tenant: str, name: str) -> None:
        """Delete a label set with all of its versions.

        Raises:
            GatewayError: label_set_not_found.
        """
        if not await self._store.run(label_sets.delete_label_set(tenant, name)):
            raise GatewayError("label_set_not_found", f"your tenant has no label set {name}")

    async def _is_content(self, stored: StoredLabelSet, data: str, labels_json: bytes) -> bool:
        if not stored.sealed:
            return False
        try:
            return await asyncio.to_thread(self._codec.decode, stored.sealed, data) == labels_json
        except CodecError:  # its key was removed; a new version can be read again
            return False


def _data(tenant: str, name: str, version: int) -> str:
    return associated_data("labels", f"{tenant}:{name}", version)
