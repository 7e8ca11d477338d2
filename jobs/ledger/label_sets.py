"""The ledger's transitions for label sets: a tenant's named labels, in numbered versions that never change.

A version's labels are one blob that the caller seals for `associated_data("labels", "<tenant>:<name>", version)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.ledger.outcomes import LabelSetOutcome
from jobs.ledger.parsing import to_text
from jobs.ledger.types import Call

MAX_LABEL_SETS = 100
"""Maximum label sets of a tenant."""
STORED_VERSIONS = 10
"""Latest versions of a label set that stay stored."""


@dataclass(frozen=True, slots=True)
class LabelSetVersions:
    """A label set's version numbers.

    Attributes:
        latest: number of the latest version ever made, of a deleted set too; 0 if there was none.
        stored: numbers of the versions that can be read; empty if there is no such set now.
    """

    latest: int
    stored: range


_NO_VERSIONS = LabelSetVersions(0, range(0))


@dataclass(frozen=True, slots=True)
class StoredLabelSet:
    """A version of a label set as stored; `sealed` is b"" and `created` 0 if there is no such version."""

    versions: LabelSetVersions
    created: int = 0
    sealed: bytes = b""


@dataclass(frozen=True, slots=True)
class ListedLabelSet:
    """A label set, with the number of labels and the time (UTC ms) of its latest version."""

    name: str
    versions: LabelSetVersions
    labels: int
    created: int


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version to store.

    Attributes:
        last: number of the latest version as it was read; this one is the next.
        labels: number of labels.
    """

    tenant: str
    name: str
    last: int
    sealed: bytes
    labels: int


@dataclass(frozen=True, slots=True)
class PutLabelSet:
    """The outcome of storing a version; only OK carries the set's versions and the time of this one (UTC ms)."""

    outcome: LabelSetOutcome
    versions: LabelSetVersions = _NO_VERSIONS
    created: int = 0


def put_label_set(new: NewVersion, max_stored_bytes: int = 0) -> Call[PutLabelSet]:
    """Store the next version of a label set; `max_stored_bytes` is the tenant's storage limit, 0 is no limit."""

    def parse(reply: Sequence[bytes]) -> PutLabelSet:
        outcome = LabelSetOutcome(to_text(reply[0]))
        if outcome is not LabelSetOutcome.OK:
            return PutLabelSet(outcome)
        return PutLabelSet(outcome, _number_versions(new.last + 1, int(reply[1])), int(reply[2]))

    args = (new.tenant, new.name, new.last, new.sealed, new.labels)
    return Call("put_label_set", (*args, STORED_VERSIONS, MAX_LABEL_SETS, max_stored_bytes), parse)


def read_label_set(tenant: str, name: str, version: int | None = None) -> Call[StoredLabelSet]:
    """Read a version of a label set, by default the latest."""

    def parse(reply: Sequence[bytes]) -> StoredLabelSet:
        return StoredLabelSet(_parse_versions(reply[0], reply[1]), int(reply[2] or 0), reply[3])

    return Call("read_label_set", (tenant, name, version or 0), parse)


def list_label_sets(tenant: str) -> Call[tuple[ListedLabelSet, ...]]:
    """List a tenant's label sets by name."""

    def parse(reply: list[Any]) -> tuple[ListedLabelSet, ...]:
        label_sets = (
            ListedLabelSet(to_text(name), _parse_versions(latest, first), int(labels), int(created))
            for name, latest, first, labels, created in reply
        )
        return tuple(sorted(label_sets, key=lambda label_set: label_set.name))

    return Call("list_label_sets", (tenant,), parse)


def delete_label_set(tenant: str, name: str) -> Call[bool]:
    """Remove a label set with all of its versions; True if it existed."""
    return Call("delete_label_set", (tenant, name), bool)


def _parse_versions(latest: bytes, first: bytes) -> LabelSetVersions:
    return _number_versions(int(latest), int(first)) if first else LabelSetVersions(int(latest or 0), range(0))


def _number_versions(latest: int, first: int) -> LabelSetVersions:
    return LabelSetVersions(latest, range(max(first, latest - STORED_VERSIONS + 1), latest + 1))
