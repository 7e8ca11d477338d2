"""Outcomes of the ledger's transitions; the values are the strings that the Lua scripts return."""

from __future__ import annotations

from enum import StrEnum


class CreateOutcome(StrEnum):
    """Outcomes of `create_job`; all but the first two are refusals."""

    CREATED = "created"
    EXISTS = "exists"
    QUOTA = "quota"
    STORED = "stored"
    OVERLOADED = "overloaded"
    MEMORY_FULL = "memory_full"
    IDEMPOTENCY_CLAIM_LOST = "idem_lost"
    STAGE_LOST = "stage_lost"
    RETRY_CONFLICT = "retry_conflict"


class IdempotencyOutcome(StrEnum):
    """Outcomes of `claim_idempotency_key`.

    RUN: the caller submits. REPLAY: return its response. REUSED: the key came with another body. IN_PROGRESS:
    another request holds the key. ANSWERED: there is a response; claim again with the hash of the streamed body.
    PURGED: the job was removed, and its response with it.
    """

    RUN = "run"
    REPLAY = "replay"
    REUSED = "reused"
    IN_PROGRESS = "in_progress"
    ANSWERED = "known"
    PURGED = "purged"


class StageOutcome(StrEnum):
    """Outcomes of `stage_shards`; EXISTS: the job was already created; STORED: the tenant's storage is full."""

    NEW = "new"
    MORE = "more"
    EXISTS = "exists"
    MEMORY_FULL = "memory_full"
    STORED = "stored"


class ClaimOutcome(StrEnum):
    """Outcomes of `claim_shard`; with all but RUN the message is acknowledged and dropped."""

    RUN = "run"
    DONE = "done"
    LEASED = "leased"
    GONE = "gone"
    NEWER = "newer"


class LeaseAnswer(StrEnum):
    """State of a lease: STOP: the job is being cancelled; LOST, STALE: the worker no longer holds the shard."""

    OK = "ok"
    STOP = "stop"
    LOST = "lost"
    STALE = "stale"


class CompleteOutcome(StrEnum):
    """Outcomes of `complete_shard`; ALREADY: a repeat; STALE: the worker no longer holds the shard."""

    STORED = "stored"
    ALREADY = "already"
    STALE = "stale"


class ReturnOutcome(StrEnum):
    """Outcomes of `release_shard`, `reclaim_shard` (CLEAN, SUSPECT, EARLY) and `republish_deferred` (PUBLISHED)."""

    RELEASED = "released"
    CLEAN = "clean"
    SUSPECT = "suspect"
    PUBLISHED = "published"
    CANCELLED = "cancelled"
    EARLY = "early"
    GONE = "gone"
    STALE = "stale"


class CancelOutcome(StrEnum):
    """Outcomes of `cancel_job`; CANCELLING: shards are still running."""

    CLOSED = "closed"
    CANCELLING = "cancelling"
    ALREADY = "already"
    ABSENT = "absent"


class PurgeOutcome(StrEnum):
    """Outcomes of `purge_job`; GONE: it was purged before."""

    PURGED = "purged"
    NOT_TERMINAL = "not_terminal"
    GONE = "gone"
    ABSENT = "absent"


class ExpireOutcome(StrEnum):
    """Outcomes of `expire_job`; EARLY: the deadline has not passed."""

    EXPIRED = "expired"
    ALREADY = "already"
    EARLY = "early"
    ABSENT = "absent"


class EndpointOutcome(StrEnum):
    """Outcomes of `upsert_endpoint`; FULL: too many endpoints; STORED: the tenant's storage is full."""

    OK = "ok"
    CONFLICT = "conflict"
    ABSENT = "absent"
    FULL = "full"
    STORED = "stored"


class LabelSetOutcome(StrEnum):
    """Outcomes of `put_label_set`; FULL: too many label sets; STORED: the tenant's storage is full."""

    OK = "ok"
    CONFLICT = "conflict"
    FULL = "full"
    STORED = "stored"


class DeliveryOutcome(StrEnum):
    """Outcomes of `claim_delivery`; HELD: the endpoint is disabled; BUSY: the receiver's concurrency is used up."""

    RUN = "run"
    GONE = "gone"
    DONE = "done"
    LEASED = "leased"
    EARLY = "early"
    HELD = "held"
    BUSY = "busy"


class RedeliverOutcome(StrEnum):
    """Outcomes of `redeliver`; FLYING: an attempt is under way."""

    QUEUED = "queued"
    DISABLED = "disabled"
    FLYING = "flying"
    ABSENT = "absent"
