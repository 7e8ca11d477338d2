"""Arguments and answers of the ledger's transitions: frozen values, no logic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jobs import naming
from jobs.ledger.outcomes import ClaimOutcome, CompleteOutcome, CreateOutcome, IdempotencyOutcome, ReturnOutcome
from jobs.schema import DEFAULT_THRESHOLD, Job, Priority
from jobs.tasks import Task

T = TypeVar("T")
LEASE_MS = 60_000
"""Duration of a lease without renewal; workers renew four times as often."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One script with its arguments and the parser of its reply."""

    script: str
    args: tuple[bytes | str | int | float, ...]
    parse: Callable[[Any], T]


@dataclass(frozen=True, slots=True)
class Message:
    """A published shard, as one Celery message names it."""

    queue: str
    job: str
    shard: int
    seq: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that `create_job` enforces on open jobs, open characters and stored bytes; 0 is no limit."""

    key_jobs: int = 0
    tenant_jobs: int = 0
    tenant_chars: int = 0
    tenant_stored: int = 0
    model_chars: int = 0
    all_chars: int = 0


@dataclass(frozen=True, slots=True)
class OpenWork:
    """A tenant's open jobs and characters, the open jobs of one of its keys, and its stored bytes."""

    key_jobs: int
    jobs: int
    characters: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class NewJob:
    """Arguments of `create_job`.

    Attributes:
        opts: encoded blob of labels and options, bound to `associated_data("opts", id)`.
        meta: encoded blob of the metadata, or b"".
        sizes: documents and cost (`jobs.cost`) of each shard, in order.
        characters: characters of all documents, as the client counts them.
        blobs: encoded payloads in order; empty if they were staged.
        endpoint_id: webhook endpoint of this job, or "".
        doc_ids: (document id, index) of documents whose id is not their index.
        created: the ledger's time from `claim_idempotency_key` (ms), or 0 for now.
        idempotency_hash: hash of the Idempotency-Key, or "".
        response: encoded response that a replay returns, stored with the key.
        body_sha: hash of a streamed body, if the key was claimed before it was known; else "".
        key_id: id of the submitting API key, whose open jobs are counted; "" counts none.
        label_set: version of the label set that the labels come from, as name@version, or "".
        text_ttl_s: how long a cancelled job's texts are stored for a retry; 0: as long as its results.
        waiter: name of a channel on which the job's end is also announced; "" for none.
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
    response: bytes = b""
    body_sha: str = ""
    key_id: str = ""
    waiter: str = ""
    text_ttl_s: float = 0
    label_set: str = ""
    limits: Limits = Limits()
    version: int = naming.WIRE_VERSION


@dataclass(frozen=True, slots=True)
class InlinePush:
    """Push of the first messages inside `create_job`, for a broker in the ledger's own Redis.

    Attributes:
        database: the broker's database.
        ledger_database: the ledger's database, selected again afterwards.
        key: the list that holds the queue.
        template: message format (%) that takes job, shard and seq, six times.
    """

    database: int
    ledger_database: int
    key: str
    template: bytes


@dataclass(frozen=True, slots=True)
class StageTerms:
    """Lifetime of staged payloads, and the tenant's storage limit (bytes; 0 is no limit)."""

    ttl_s: float = 600
    tenant: str = ""
    max_stored_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ClaimTerms:
    """Terms of a worker's claim.

    Attributes:
        max_version: newest version of job records that the worker reads.
        at_risk: record the shard as a crash suspect in the same step, unless it has to run isolated.
        default_threshold: threshold of the job from now on, if no other worker has begun it.
    """

    max_version: int = naming.WIRE_VERSION
    lease_ms: int = LEASE_MS
    at_risk: bool = False
    default_threshold: float = DEFAULT_THRESHOLD


@dataclass(frozen=True, slots=True)
class ShardResult:
    """Results of a shard.

    Attributes:
        blob: encoded results.
        leftover: encoded payload of the failed documents, stored for a retry; b"" if none failed.
        cache_entries: (cache key, index of its result), for `find_cached_results` to find for `cache_ms`.
    """

    blob: bytes
    leftover: bytes
    succeeded: int
    failed: int
    usage: dict[str, int]
    errors: dict[str, int]
    cache_entries: Sequence[tuple[str, int]] = ()
    cache_ms: int = 0


@dataclass(frozen=True, slots=True)
class Created:
    """The outcome of a submission.

    Attributes:
        now: the ledger's time (ms); with CREATED and EXISTS the job's creation time.
        publish: messages that are still to be pushed, with CREATED.
        stored_bytes: bytes that the tenant stores, with STORED.
    """

    kind: CreateOutcome
    now: int
    retry_after_s: float = 0.0
    publish: tuple[Message, ...] = ()
    stored_bytes: int = 0


@dataclass(frozen=True, slots=True)
class IdempotencyClaim:
    """The state of an Idempotency-Key; `response` is set with REPLAY only."""

    kind: IdempotencyOutcome
    response: bytes
    now: int


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a worker's claim; only RUN carries work.

    Attributes:
        isolated: the shard is a crash suspect and runs document by document, next to no other.
        first_document: the document to begin with.
        isolated_deaths: processes that died while they ran that document isolated.
        partial_results: encoded results of the documents before it, of an isolated shard.
        default_threshold: threshold of documents for which neither job nor document names one.
    """

    kind: ClaimOutcome
    blob: bytes = b""
    opts: bytes = b""
    attempts: int = 0
    isolated: bool = False
    first_document: int = 0
    isolated_deaths: int = 0
    tenant: str = ""
    trace: str = ""
    started: int = 0
    created: int = 0
    partial_results: tuple[bytes, ...] = ()
    default_threshold: float = DEFAULT_THRESHOLD


@dataclass(frozen=True, slots=True)
class Completed:
    """The outcome of a completion; with STORED the job's state and messages to be pushed."""

    kind: CompleteOutcome
    job_state: str = ""
    publish: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardReturn:
    """The outcome of returning a shard to its queue; `publish` is empty if it did not return."""

    kind: ReturnOutcome
    publish: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Gone:
    """A purged job; the ledger remembers its tenant for seven days."""

    tenant: str


@dataclass(frozen=True, slots=True)
class StoredShard:
    """A finished shard: `state` d (blob: results), or c or x (blob: payload of documents that never ran)."""

    shard: int
    state: str
    attempts: int
    blob: bytes


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A cached result: number `at` of the results in `blob`, from a finished shard of another job."""

    job: str
    shard: int
    at: int
    blob: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Finished shards from a cursor on, of `total` shards, and the job at the same moment."""

    job: Job
    shards: tuple[StoredShard, ...]
    total: int


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Capabilities of a model, announced by its workers.

    Attributes:
        words_per_window: words per window.
        tokens_per_row: tokens per row, labels included.
        words_per_entity: words of the longest entity that the model can find.
        default_threshold: minimum score of an entity if the request names none.
        tasks: tasks that the model can do.
        max_labels: most labels of a document; 0: the gateway's setting.
    """

    words_per_window: int = 0
    tokens_per_row: int = 0
    words_per_entity: int = 0
    default_threshold: float = DEFAULT_THRESHOLD
    tasks: tuple[Task, ...] = (Task.ENTITIES,)
    max_labels: int = 0


@dataclass(frozen=True, slots=True)
class DueWork:
    """Work that an upkeep tick has to do.

    Attributes:
        deadlines: jobs past their deadline.
        purge: terminal jobs whose results have expired.
        staging: submissions that were never committed.
        queues: every queue that ever had a job.
        slugs: every model that ever had a job.
        audit: one open job, in turn.
        texts: cancelled jobs whose texts are no longer needed for a retry.
        wipes: records of deleted endpoints and jobs that are not fully removed, for `wipe_record`.
        sweep: one random tenant that stores anything.
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
    """A position in a tenant's list of jobs: right after this job, which may be gone."""

    created: int
    id: str


@dataclass(frozen=True, slots=True)
class JobList:
    """Jobs, newest first; `next` is the position to continue from, None at the end."""

    jobs: tuple[Job, ...]
    next: JobPosition | None


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A job and the shard that holds document `index`; `shard` is None if the job has no such document.

    The shard's blob holds results if its state is d, else the payload.
    """

    job: Job
    index: int
    shard: StoredShard | None


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Payloads of documents that did not succeed, as (shard, blob).

    Attributes:
        next: the shard to continue with; None at the end.
        endpoint_id: the job's webhook endpoint, or "".
        dropped: the texts have been deleted.
    """

    job: Job
    blobs: tuple[tuple[int, bytes], ...]
    next: int | None
    endpoint_id: str
    dropped: bool = False
