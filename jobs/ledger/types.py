"""What the ledger's transitions take and answer: frozen values, no logic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from jobs import naming
from jobs.schema import DEFAULT_THRESHOLD, Job, Priority

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One script with its arguments, and how to read its reply."""

    script: str
    args: tuple[bytes | str | int | float, ...]
    parse: Callable[[Any], T]


@dataclass(frozen=True, slots=True)
class Message:
    """A shard to be pushed to its queue: what one Celery message stands for."""

    queue: str
    job: str
    shard: int
    seq: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Room that create must find: in open jobs, open characters, and bytes that are stored; 0 is no limit."""

    key_jobs: int = 0
    tenant_jobs: int = 0
    tenant_chars: int = 0
    tenant_stored: int = 0
    model_chars: int = 0
    all_chars: int = 0


@dataclass(frozen=True, slots=True)
class OpenWork:
    """Jobs and characters that a tenant has open, the jobs of one of its keys, and the bytes it keeps in all."""

    key_jobs: int
    jobs: int
    characters: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class NewJob:
    """Everything `create` needs.

    Attributes:
        opts: encoded blob of the job's labels and options, at place `records.place("opts", id)`.
        meta: encoded blob of its metadata, or b"".
        sizes: documents and cost (`jobs.cost`) of each shard, in order.
        characters: of all documents, as the client counts them.
        blobs: encoded payloads in order; empty where they were staged.
        doc_ids: (document id, index) of documents whose id is not their index.
        created: the ledger's time from `claim_idempotency_key`, or 0 for now.
        idempotency_hash: hash of the Idempotency-Key, or "".
        answer: what a replay answers, kept with the key.
        body_sha: hash of a stream's body, which the key learns now; "" where it knew.
        key_id: id of the API key that submits it, whose open jobs are counted; "" counts none.
        text_ttl_s: how long a cancelled job's texts stay for a retry; 0: as long as its results.
        waiter: a channel's name where the job's end is announced too; "" for none.
    """

    id: str
    tenant: str
    model: str
    priority: Priority
    opts: bytes
    sizes: Sequence[tuple[int, int]]
    blobs: Sequence[bytes]
    deadline_s: float
    result_ttl_s: float
    characters: int = 0
    meta: bytes = b""
    doc_ids: Sequence[tuple[str, int]] = ()
    bytes_in: int = 0
    endpoint_id: str = ""
    retry_of: str = ""
    trace: str = ""
    created: int = 0
    idempotency_hash: str = ""
    nonce: str = ""
    answer: bytes = b""
    body_sha: str = ""
    key_id: str = ""
    waiter: str = ""
    text_ttl_s: float = 0
    limits: Limits = Limits()
    version: int = naming.WIRE_VERSION


@dataclass(frozen=True, slots=True)
class InlinePush:
    """How `create` pushes what it publishes itself, to a broker on the ledger's own server.

    Attributes:
        database: the broker's.
        back: the ledger's.
        key: the list that is the queue.
        template: a message, a format (%) of job, shard and seq, six times.
    """

    database: int
    back: int
    key: str
    template: bytes


@dataclass(frozen=True, slots=True)
class Created:
    """What became of a submission; `publish` is still to be pushed where kind is `created`.

    Attributes:
        stored_bytes: what the tenant keeps, where that is why the job was refused (`stored`).
    """

    kind: Literal[
        "created",
        "exists",
        "quota",
        "stored",
        "overloaded",
        "memory_full",
        "idem_lost",
        "stage_lost",
        "retry_conflict",
    ]
    now: int
    retry_after_s: float = 0.0
    publish: tuple[Message, ...] = ()
    stored_bytes: int = 0


@dataclass(frozen=True, slots=True)
class IdempotencyClaim:
    """What became of an Idempotency-Key.

    `run`: this caller submits; `replay`: answer as stored; `reused`: other body; `in_progress`: being run; `known`:
    answered before, and to be asked again with the hash of the stream's body; `purged`: the job that it made was
    removed, and the answer with it.
    """

    kind: Literal["run", "replay", "reused", "in_progress", "known", "purged"]
    answer: bytes
    now: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's answer to a message; only `run` carries work, all else is acked and dropped.

    Attributes:
        solo: deaths of processes while they ran the document `at` alone.
        partial: encoded results of the documents before `at`, of a shard that runs alone.
        default_threshold: the job's, where neither it nor a document names one.
    """

    kind: Literal["run", "done", "leased", "gone", "newer"]
    blob: bytes = b""
    opts: bytes = b""
    attempts: int = 0
    alone: bool = False
    at: int = 0
    solo: int = 0
    tenant: str = ""
    trace: str = ""
    started: int = 0
    created: int = 0
    partial: tuple[bytes, ...] = ()
    default_threshold: float = DEFAULT_THRESHOLD


@dataclass(frozen=True, slots=True)
class Completed:
    """`stored` once; `already` for a repeat; `stale` where the lease or the job is no longer ours."""

    kind: Literal["stored", "already", "stale"]
    job_state: str = ""
    publish: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardReturn:
    """A shard that went back to its queue (`publish`), or did not."""

    kind: str
    publish: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Gone:
    """A purged job; its tenant is known for seven days."""

    tenant: str


@dataclass(frozen=True, slots=True)
class StoredShard:
    """A finished shard: `state` d (blob: results), c or x (blob: the payload of documents that never ran)."""

    shard: int
    state: str
    attempts: int
    blob: bytes


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A document's result in a finished shard of another job: the one at `at` in the results that `blob` holds."""

    job: str
    shard: int
    at: int
    blob: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Finished shards from a cursor on, of `total` shards, and the job in the same moment."""

    job: Job
    shards: tuple[StoredShard, ...]
    total: int


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts about a model, announced by its workers.

    Attributes:
        words_per_window: words that it reads at once.
        tokens_per_row: tokens that it reads at once, labels included.
        words_per_entity: words of the longest entity that it finds.
        default_threshold: the score from which an entity counts where a request names none.
    """

    words_per_window: int = 0
    tokens_per_row: int = 0
    words_per_entity: int = 0
    default_threshold: float = DEFAULT_THRESHOLD


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model as its workers and its backlog show it; `drain_rate` in characters a second, 0 if never measured."""

    name: str
    workers: int
    revision: str | None
    reason: str | None
    open_jobs: int
    open_characters: int
    drain_rate: float
    open_shards: int
    facts: ModelFacts | None = None


@dataclass(frozen=True, slots=True)
class DueWork:
    """What upkeep's tick found.

    Attributes:
        deadlines: jobs past their deadline.
        purge: terminal jobs past their results' time.
        staging: submissions that never were committed.
        queues: every queue that ever had a job.
        slugs: every model that ever had one.
        audit: one open job, each in its turn.
        texts: cancelled jobs whose texts have been kept for a retry long enough.
        wipes: what is still to be removed of deleted endpoints and jobs, for `wipe`.
        sweep: one tenant of those that keep anything.
    """

    deadlines: tuple[str, ...]
    purge: tuple[str, ...]
    staging: tuple[str, ...]
    queues: tuple[str, ...]
    slugs: tuple[str, ...]
    audit: tuple[str, ...]
    texts: tuple[str, ...] = ()
    wipes: tuple[str, ...] = ()
    sweep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobPosition:
    """A place in a tenant's list of jobs: right behind this one, whether or not it is still there."""

    created: int
    id: str


@dataclass(frozen=True, slots=True)
class JobList:
    """Jobs, newest first; `next` is where to go on, None at the end."""

    jobs: tuple[Job, ...]
    next: JobPosition | None


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A job, and the shard in which document `index` is; `shard` None where the job has no such document.

    Its blob holds results where its state is d, else the payload.
    """

    job: Job
    index: int
    shard: StoredShard | None


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Payloads of documents that did not succeed, as (shard, blob).

    Attributes:
        next: the shard to go on with; None at the end.
        endpoint_id: the endpoint that the job's end was told, or "".
        dropped: the texts are not kept any more.
    """

    job: Job
    blobs: tuple[tuple[int, bytes], ...]
    next: int | None
    endpoint_id: str
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class QueueBacklog:
    """One queue of a model: its open jobs, those that have not begun, and shards published and unclaimed."""

    priority: Priority
    open_jobs: int
    queued_jobs: int
    published_shards: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is open of one model, in all its queues.

    Attributes:
        slots: shards that one worker holds at once, as the workers say.
        drain_rate: characters a second, 0 if never measured.
        oldest_ms: age of the oldest open job.
    """

    model: str
    workers: int
    slots: int
    open_jobs: int
    open_characters: int
    open_shards: int
    drain_rate: float
    oldest_ms: int | None
    reason: str | None
    queues: tuple[QueueBacklog, ...]
