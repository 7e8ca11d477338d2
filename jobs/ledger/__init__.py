"""The ledger: the record of all jobs in Redis and the only source of truth.

`commands` has its transitions as values, `maintenance` those of upkeep, `reading` and `stats` the reads, `webhooks`
those of deliveries; `store` runs them on Redis, `lua/` holds their scripts. No other package knows a Redis key.
"""

from jobs.ledger.commands import (
    announce_worker,
    cancel_job,
    claim_idempotency_key,
    claim_shard,
    complete_shard,
    create_job,
    deregister_worker,
    ping_write,
    purge_job,
    record_progress,
    release_idempotency_key,
    release_shard,
    renew_leases,
    report_model_error,
    set_crash_suspects,
    stage_shards,
)
from jobs.ledger.maintenance import (
    GRACE_MS,
    audit_job,
    drop_stage,
    drop_texts,
    due_shards,
    expire_job,
    read_queue_seq,
    reclaim_shard,
    republish_deferred,
    republish_lost,
    sweep_tenant,
    upkeep_tick,
    wipe_record,
)
from jobs.ledger.outcomes import (
    CancelOutcome,
    ClaimOutcome,
    CompleteOutcome,
    CreateOutcome,
    ExpireOutcome,
    IdempotencyOutcome,
    LeaseAnswer,
    PurgeOutcome,
    ReturnOutcome,
    StageOutcome,
)
from jobs.ledger.parsing import associated_data
from jobs.ledger.reading import (
    find_cached_results,
    find_document,
    list_jobs,
    parse_announced_page,
    read_job,
    read_leftovers,
    read_open_work,
    read_page,
    read_versions,
)
from jobs.ledger.stats import LedgerStats, ModelStats, QueueStats, read_models, read_stats
from jobs.ledger.store import (
    BARRIER_KEY,
    AsyncLedger,
    Ledger,
    LedgerUnavailableError,
    job_channel,
    record_key,
)
from jobs.ledger.types import (
    LEASE_MS,
    Call,
    Claim,
    ClaimTerms,
    Completed,
    Created,
    DueWork,
    FoundDocument,
    Gone,
    IdempotencyClaim,
    InlinePush,
    JobList,
    JobPosition,
    Leftovers,
    Limits,
    Message,
    ModelFacts,
    NewJob,
    OpenWork,
    Page,
    ShardResult,
    ShardReturn,
    StageTerms,
    StoredResult,
    StoredShard,
)
