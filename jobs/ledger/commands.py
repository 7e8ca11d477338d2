"""The ledger's transitions as values.

Each function turns what a caller knows into a `Call`; `Call.parse` turns the server's reply into a typed answer.
Nothing here talks to a server, `jobs.ledger.store` does. Every transition is safe to repeat: the caller makes the
ids and nonces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from jobs import naming
from jobs.ledger import parsing
from jobs.ledger.types import (
    Call,
    Claim,
    Completed,
    Created,
    IdempotencyClaim,
    InlinePush,
    Message,
    ModelFacts,
    NewJob,
    ShardReturn,
)
from jobs.schema import DEFAULT_THRESHOLD

LEASE_MS = 60_000
"""How long a claim holds without a renewal; workers renew four times as often."""
MARK_TTL_MS = 10 * 60_000
WORKER_TTL_MS = 30_000


# Submission


def claim_idempotency_key(tenant: str, key_hash: str, nonce: str, body_sha: str) -> Call[IdempotencyClaim]:
    """Claim an Idempotency-Key for 20 s (again with the same nonce: another 20 s)."""
    return Call(
        "claim_idempotency_key",
        (tenant, key_hash, nonce, body_sha),
        lambda r: IdempotencyClaim(parsing.text(r[0]), r[1], int(r[2])),  # type: ignore[arg-type]  # a script's word
    )


def release_idempotency_key(tenant: str, key_hash: str, nonce: str) -> Call[bool]:
    """Free a key whose submission was refused; True if it was ours."""
    return Call("release_idempotency_key", (tenant, key_hash, nonce), bool)


def stage_shards(
    job: str,
    first_shard: int,
    blobs: Sequence[bytes],
    doc_ids: Sequence[tuple[str, int]] = (),
    ttl_s: float = 600,
    *,
    tenant: str = "",
    max_stored_bytes: int = 0,
) -> Call[str]:
    """Keep payloads of a job that is still arriving, for `ttl_s` after the latest call.

    new, more, exists (the job was made), memory_full, or stored (the tenant would keep more than
    `max_stored_bytes`; 0 is no limit). `doc_ids` are (document id, index) of documents whose id is not their index.
    Without any payload, what is there is kept for longer.
    """
    args: list[bytes | int] = []
    for offset, blob in enumerate(blobs):
        args += (first_shard + offset, blob)
    ids = _pairs(doc_ids)
    return Call("stage_shards", (job, int(ttl_s * 1000), ids, tenant, max_stored_bytes, *args), parsing.text)


def create_job(new: NewJob, within: InlinePush | None = None) -> Call[Created]:
    """Make a job and its shards visible in one step, and publish as many as the window has room for.

    `within`: how their messages are pushed in the same step; what could not be is in the answer, as without it.
    """
    queue = naming.queue_name(new.model, new.priority)
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
        "trace": new.trace,
        "idem": new.idempotency_hash,
        "nonce": new.nonce,
        "body_sha": new.body_sha,
        "by": new.key_id,
        "waiter": new.waiter,
        "text_ttl_ms": int(new.text_ttl_s * 1000),
        "push": None if within is None else [within.database, within.back, within.key],
        "limits": {
            "key_jobs": new.limits.key_jobs,
            "tenant_jobs": new.limits.tenant_jobs,
            "tenant_chars": new.limits.tenant_chars,
            "tenant_stored": new.limits.tenant_stored,
            "model_chars": new.limits.model_chars,
            "all_chars": new.limits.all_chars,
        },
    }

    def parse(reply: list[bytes]) -> Created:
        return Created(
            parsing.text(reply[0]),  # type: ignore[arg-type]  # a script's word
            int(reply[1]),
            float(reply[2]),
            parsing.messages(queue, new.id, reply[4:]),
            int(reply[3] or 0),
        )

    head = (orjson.dumps(header), new.opts, new.meta, new.answer, orjson.dumps(list(new.sizes)))
    template = b"" if within is None else within.template
    return Call("create_job", (*head, _pairs(new.doc_ids), template, *new.blobs), parse)


# A worker's life with a shard


def claim_shard(
    message: Message,
    nonce: str,
    worker: str,
    revision: str,
    *,
    max_version: int = naming.WIRE_VERSION,
    lease_ms: int = LEASE_MS,
    at_risk: bool = False,
    default_threshold: float = DEFAULT_THRESHOLD,
) -> Call[Claim]:
    """Take a shard for `worker`, or learn why its message is to be dropped.

    `at_risk` marks it in the same step, unless it has to run alone. `default_threshold` is the job's from now on,
    where no other worker began it.
    """

    def parse(reply: list[Any]) -> Claim:
        kind = parsing.text(reply[0])
        if kind != "run":
            return Claim(kind)  # type: ignore[arg-type]  # a script's word
        blob, opts, attempts, mode, at, solo, tenant, trace, started, created, threshold = reply[1:12]
        return Claim(
            "run",
            blob,
            opts,
            int(attempts),
            int(mode) == 1,
            int(at),
            int(solo),
            parsing.text(tenant),
            parsing.text(trace),
            int(started),
            int(created),
            tuple(reply[12:]),
            float(threshold),
        )

    args = (
        message.job,
        message.shard,
        message.seq,
        nonce,
        worker,
        max_version,
        message.queue,
        lease_ms,
        revision,
        MARK_TTL_MS if at_risk else 0,
        default_threshold,
    )
    return Call("claim_shard", args, parse)


def set_crash_suspects(
    worker: str, shards: Iterable[tuple[str, int]], left: Iterable[tuple[str, int]] = ()
) -> Call[None]:
    """Write down the suspects if the process dies now: `shards` from now on, those that `left` no more."""
    gone, members = ([f"{job}:{shard}" for job, shard in some] for some in (left, shards))
    return Call("set_crash_suspects", (worker, MARK_TTL_MS, len(gone), *gone, *members), lambda _: None)


def renew_leases(leases: Sequence[tuple[str, int, str]], lease_ms: int = LEASE_MS) -> Call[tuple[str, ...]]:
    """Longer leases for (job, shard, nonce)...; one of ok, stop, lost for each."""
    flat = [part for lease in leases for part in lease]
    return Call("renew_leases", (lease_ms, *flat), lambda r: tuple(map(parsing.text, r)))


def record_progress(job: str, shard: int, nonce: str, at: int, result: bytes = b"") -> Call[str]:
    """In a shard that runs alone: document `at` begins now, `result` is the one before. ok, stop or stale."""
    return Call("record_progress", (job, shard, nonce, at, result), parsing.text)


def complete_shard(
    message: Message,
    nonce: str,
    result: bytes,
    leftover: bytes,
    succeeded: int,
    failed: int,
    usage: dict[str, int],
    errors: dict[str, int],
    answers: Iterable[tuple[str, int]] = (),
    keep_ms: int = 0,
) -> Call[Completed]:
    """Store a shard's results, once; `leftover` is the payload of its failed documents, kept for a retry.

    `answers` are (question, place of its result), for `recall` to find for `keep_ms`.
    """

    def parse(reply: list[bytes]) -> Completed:
        kind = parsing.text(reply[0])
        if kind != "stored":
            return Completed(kind)  # type: ignore[arg-type]  # a script's word
        return Completed("stored", parsing.text(reply[1]), parsing.turns(message.queue, reply[2:]))

    numbers = (succeeded, failed, orjson.dumps(usage), orjson.dumps(errors))
    known = [part for answer in answers for part in answer]
    args = (message.job, message.shard, nonce, result, leftover, *numbers, keep_ms, *known)
    return Call("complete_shard", args, parse)


def release_shard(job: str, shard: int, nonce: str) -> Call[ShardReturn]:
    """Give a shard back unfinished (drain, stop); never an attempt."""
    return Call("release_shard", (job, shard, nonce), parsing.returned(job))


def announce_worker(
    model: str, worker: str, slots: int, revision: str, facts: ModelFacts | None = None
) -> Call[None]:
    """Keep a worker on its model's list for the next half minute, and say what the model can do."""
    announcement = orjson.dumps({"revision": revision, **asdict(facts)}) if facts else b""
    args = (naming.model_slug(model), worker, WORKER_TTL_MS, slots, revision, announcement)
    return Call("announce_worker", args, lambda _: None)


def deregister_worker(model: str, worker: str) -> Call[None]:
    """Take a worker off its model's list."""
    return Call("announce_worker", (naming.model_slug(model), worker, 0, 0, "", b""), lambda _: None)


def report_model_error(model: str, reason: str) -> Call[None]:
    """Say why workers of this model cannot start; the next that starts clears it."""
    return Call("report_model_error", (naming.model_slug(model), reason), lambda _: None)


# A client's


def cancel_job(job: str) -> Call[str]:
    """closed, cancelling (something still runs), already, or absent."""
    return Call("cancel_job", (job,), parsing.text)


def purge_job(job: str, *, erase: bool = True) -> Call[str]:
    """purged, not_terminal, gone (was purged before), or absent.

    `erase` removes whatever was said of the job as well: what its Idempotency-Key answers, its own endpoint, and
    its deliveries, of which those still to come go out without metadata. Without it deliveries go on as they are.
    """
    return Call("purge_job", (job, int(erase)), parsing.text)


def ping_write() -> Call[int]:
    """A real write; the ledger's time."""
    return Call("ping_write", (), int)


def _pairs(doc_ids: Sequence[tuple[str, int]]) -> bytes:
    flat: list[str] = []
    for doc_id, index in doc_ids:
        flat += (doc_id, str(index))
    return orjson.dumps(flat) if flat else b""
