"""The ledger's transitions for gateways and workers, as values.

Each function turns its arguments into a `Call`; `Call.parse` turns the script's reply into a typed answer. Nothing
here does I/O, `jobs.ledger.store` does. Every transition is safe to repeat: the caller makes the ids and nonces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from jobs import naming
from jobs.ledger import parsing
from jobs.ledger.outcomes import (
    CancelOutcome,
    ClaimOutcome,
    CompleteOutcome,
    CreateOutcome,
    IdempotencyOutcome,
    LeaseAnswer,
    PurgeOutcome,
    StageOutcome,
)
from jobs.ledger.types import (
    LEASE_MS,
    Call,
    Claim,
    ClaimTerms,
    Completed,
    Created,
    IdempotencyClaim,
    InlinePush,
    Message,
    ModelFacts,
    NewJob,
    ShardResult,
    ShardReturn,
    StageTerms,
)

SUSPECTS_TTL_MS = 10 * 60_000
WORKER_TTL_MS = 30_000
_CLAIM_TERMS, _STAGE_TERMS = ClaimTerms(), StageTerms()


# Submission


def claim_idempotency_key(tenant: str, key_hash: str, nonce: str, body_sha: str) -> Call[IdempotencyClaim]:
    """Claim an Idempotency-Key for 20 s; the same nonce extends its claim by another 20 s."""
    return Call(
        "claim_idempotency_key",
        (tenant, key_hash, nonce, body_sha),
        lambda r: IdempotencyClaim(IdempotencyOutcome(parsing.to_text(r[0])), r[1], int(r[2])),
    )


def release_idempotency_key(tenant: str, key_hash: str, nonce: str) -> Call[bool]:
    """Release a key whose submission was refused; True if the nonce held it."""
    return Call("release_idempotency_key", (tenant, key_hash, nonce), bool)


def stage_shards(
    job: str,
    first_shard: int,
    blobs: Sequence[bytes],
    doc_ids: Sequence[tuple[str, int]] = (),
    terms: StageTerms = _STAGE_TERMS,
) -> Call[StageOutcome]:
    """Store payloads of a job that is still arriving; without payloads, extend the lifetime of those stored.

    `doc_ids` are (document id, index) of documents whose id is not their index.
    """
    args = (part for numbered in enumerate(blobs, first_shard) for part in numbered)
    head = (job, int(terms.ttl_s * 1000), _encode_doc_ids(doc_ids), terms.tenant, terms.max_stored_bytes)
    return Call("stage_shards", (*head, *args), parsing.enum_parser(StageOutcome))


def create_job(new: NewJob, inline_push: InlinePush | None = None) -> Call[Created]:
    """Create a job and its shards in one atomic step, and publish as many shards as the tenant's share allows.

    With `inline_push` their messages are pushed in the same step; those that could not be are in the answer.
    """
    queue = naming.queue_name(new.model, new.priority)
    push = inline_push and [inline_push.database, inline_push.ledger_database, inline_push.key]
    header = {
        "id": new.id,
        "tenant": new.tenant,
        "model": new.model,
        "slug": naming.model_slug(new.model),
        "queue": queue,
        "priority": new.priority,
        "ver": new.version,
        "total": sum(documents for documents, _ in new.sizes),
        "chars": new.characters,
        "cost": sum(cost for _, cost in new.sizes),
        "bytes": new.bytes_in or sum(map(len, new.blobs)),
        "created": new.created,
        "deadline_ms": int(new.deadline_s * 1000),
        "ttl_ms": int(new.result_ttl_s * 1000),
        "hook": new.endpoint_id,
        "retry_of": new.retry_of,
        "label_set": new.label_set,
        "trace": new.trace,
        "idem": new.idempotency_hash,
        "nonce": new.nonce,
        "body_sha": new.body_sha,
        "by": new.key_id,
        "waiter": new.waiter,
        "text_ttl_ms": int(new.text_ttl_s * 1000),
        "push": push,
        "limits": new.limits,  # orjson encodes dataclasses; `asdict` took 80 calls a job
    }

    def parse(reply: list[bytes]) -> Created:
        shards = map(int, reply[4:])
        return Created(
            CreateOutcome(parsing.to_text(reply[0])),
            int(reply[1]),
            float(reply[2]),
            tuple(Message(queue, new.id, shard, seq) for shard, seq in zip(shards, shards, strict=True)),
            int(reply[3] or 0),
        )

    head = (orjson.dumps(header), new.opts, new.meta, new.response, orjson.dumps(list(new.sizes)))
    template = b"" if inline_push is None else inline_push.template
    return Call("create_job", (*head, _encode_doc_ids(new.doc_ids), template, *new.blobs), parse)


# A shard on a worker


def claim_shard(
    message: Message, nonce: str, worker: str, revision: str, terms: ClaimTerms = _CLAIM_TERMS
) -> Call[Claim]:
    """Claim a shard for `worker`, or learn why its message is to be dropped."""

    def parse(reply: list[Any]) -> Claim:
        kind = ClaimOutcome(parsing.to_text(reply[0]))
        if kind is not ClaimOutcome.RUN:
            return Claim(kind)
        blob, opts, attempts, mode, at, solo, tenant, trace, started, created, threshold = reply[1:12]
        return Claim(
            kind,
            blob,
            opts,
            int(attempts),
            int(mode) == 1,
            int(at),
            int(solo),
            parsing.to_text(tenant),
            parsing.to_text(trace),
            int(started),
            int(created),
            tuple(reply[12:]),
            float(threshold),
        )

    args = (
        *(message.job, message.shard, message.seq, nonce, worker, terms.max_version, message.queue),
        *(terms.lease_ms, revision, SUSPECTS_TTL_MS if terms.at_risk else 0, terms.default_threshold),
    )
    return Call("claim_shard", args, parse)


def set_crash_suspects(
    worker: str, shards: Iterable[tuple[str, int]], left: Iterable[tuple[str, int]] = ()
) -> Call[None]:
    """Update the worker's crash suspects: add `shards`, remove `left`."""
    removed, added = ([f"{job}:{shard}" for job, shard in pairs] for pairs in (left, shards))
    return Call("set_crash_suspects", (worker, SUSPECTS_TTL_MS, len(removed), *removed, *added), lambda _: None)


def renew_leases(leases: Sequence[tuple[str, int, str]], lease_ms: int = LEASE_MS) -> Call[tuple[LeaseAnswer, ...]]:
    """Renew the leases of (job, shard, nonce)...; return OK, STOP or LOST for each."""
    flat = [part for lease in leases for part in lease]
    to_answer = parsing.enum_parser(LeaseAnswer)
    return Call("renew_leases", (lease_ms, *flat), lambda reply: tuple(map(to_answer, reply)))


def record_progress(job: str, shard: int, nonce: str, at: int, result: bytes = b"") -> Call[LeaseAnswer]:
    """Record, for a shard that runs alone, that document `at` begins; `result` is the previous document's.

    Returns OK, STOP or STALE.
    """
    return Call("record_progress", (job, shard, nonce, at, result), parsing.enum_parser(LeaseAnswer))


def complete_shard(message: Message, nonce: str, result: ShardResult) -> Call[Completed]:
    """Store a shard's results, once."""

    def parse(reply: list[bytes]) -> Completed:
        kind = CompleteOutcome(parsing.to_text(reply[0]))
        if kind is not CompleteOutcome.STORED:
            return Completed(kind)
        return Completed(kind, parsing.to_text(reply[1]), parsing.parse_messages(message.queue, reply[2:]))

    args = (
        *(message.job, message.shard, nonce, result.blob, result.leftover, result.succeeded, result.failed),
        *(orjson.dumps(result.usage), orjson.dumps(result.errors), result.cache_ms),
        *(part for entry in result.cache_entries for part in entry),
    )
    return Call("complete_shard", args, parse)


def release_shard(job: str, shard: int, nonce: str) -> Call[ShardReturn]:
    """Return an unfinished shard to its queue (drain, stop); it does not count as an attempt."""
    return Call("release_shard", (job, shard, nonce), parsing.shard_return_parser(job))


def announce_worker(
    model: str, worker: str, slots: int, revision: str, facts: ModelFacts | None = None
) -> Call[None]:
    """List a worker as alive for the next 30 s, and announce the model's capabilities."""
    announcement = orjson.dumps({"revision": revision, **asdict(facts)}) if facts else b""
    args = (naming.model_slug(model), worker, WORKER_TTL_MS, slots, revision, announcement)
    return Call("announce_worker", args, lambda _: None)


def deregister_worker(model: str, worker: str) -> Call[None]:
    """Remove a worker from its model's list."""
    return Call("announce_worker", (naming.model_slug(model), worker, 0, 0, "", b""), lambda _: None)


def report_model_error(model: str, reason: str) -> Call[None]:
    """Record why workers of this model cannot start; the next one that starts clears it."""
    return Call("report_model_error", (naming.model_slug(model), reason), lambda _: None)


# A client's commands


def cancel_job(job: str) -> Call[CancelOutcome]:
    """Cancel a job: unclaimed shards end now, running ones may finish."""
    return Call("cancel_job", (job,), parsing.enum_parser(CancelOutcome))


def purge_job(job: str, *, erase: bool = True) -> Call[PurgeOutcome]:
    """Remove a terminal job but for its tombstone.

    `erase` also removes the response of its Idempotency-Key, its endpoint and its deliveries; deliveries that are
    still due are sent without metadata. Without it deliveries continue unchanged.
    """
    return Call("purge_job", (job, int(erase)), parsing.enum_parser(PurgeOutcome))


def ping_write() -> Call[int]:
    """Write to Redis, to see that it accepts writes; return the ledger's time (ms)."""
    return Call("ping_write", (), int)


def _encode_doc_ids(doc_ids: Sequence[tuple[str, int]]) -> bytes:
    flat = [part for doc_id, index in doc_ids for part in (doc_id, str(index))]
    return orjson.dumps(flat) if flat else b""
