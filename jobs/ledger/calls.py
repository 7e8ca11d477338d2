"""The ledger's transitions as values.

Each function turns what a caller knows into a `Call`; `Call.parse` turns the server's reply into a typed answer.
Nothing here talks to a server, `jobs.ledger.store` does. Every transition is safe to repeat: the caller makes the
ids and nonces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson

from jobs import names
from jobs.ledger import records
from jobs.ledger.values import (
    Call,
    Claim,
    Completed,
    Created,
    Due,
    Gone,
    IdemBegin,
    Message,
    ModelView,
    NewJob,
    OpenWork,
    Page,
    Returned,
    StoredShard,
)
from jobs.schema import Job

LEASE_MS = 60_000
"""How long a claim holds without a renewal; workers renew four times as often."""
GRACE_MS = 30_000
"""How long a published shard may go unread behind later ones before its message counts as lost."""
MARK_TTL_MS = 10 * 60_000
WORKER_TTL_MS = 30_000


# Submission


def idem_begin(tenant: str, key_hash: str, nonce: str, body_sha: str) -> Call[IdemBegin]:
    """Claim an Idempotency-Key for 20 s (again with the same nonce: another 20 s)."""
    return Call(
        "idem_begin",
        (tenant, key_hash, nonce, body_sha),
        lambda r: IdemBegin(records.text(r[0]), r[1], int(r[2])),  # type: ignore[arg-type]  # a script's word
    )


def idem_drop(tenant: str, key_hash: str, nonce: str) -> Call[bool]:
    """Free a key whose submission was refused; True if it was ours."""
    return Call("idem_drop", (tenant, key_hash, nonce), bool)


def stage(
    job: str,
    first_shard: int,
    blobs: Sequence[bytes],
    doc_ids: Sequence[tuple[str, int]] = (),
    ttl_s: float = 600,
) -> Call[str]:
    """Keep payloads of a job that is still arriving, for `ttl_s` after the latest call.

    new, more, exists (the job was made), or memory_full. `doc_ids` are (document id, index) of documents whose id
    is not their index. Without any payload, what is there is kept for longer.
    """
    args: list[bytes | int] = []
    for offset, blob in enumerate(blobs):
        args += (first_shard + offset, blob)
    ids = _pairs(doc_ids)
    size = sum(map(len, blobs)) + len(ids)
    return Call("stage", (job, size, int(ttl_s * 1000), ids, *args), records.text)


def create(new: NewJob) -> Call[Created]:
    """Make a job and its shards visible in one step, and publish as many as the window has room for."""
    queue = names.queue(new.model, new.priority)
    characters = sum(chars for _, chars in new.sizes)
    header = {
        "id": new.id,
        "tenant": new.tenant,
        "model": new.model,
        "slug": names.slug(new.model),
        "queue": queue,
        "priority": new.priority,
        "ver": new.version,
        "total": sum(documents for documents, _ in new.sizes),
        "chars": characters,
        "bytes": new.bytes_in or sum(map(len, new.blobs)),
        "created": new.created,
        "deadline_ms": int(new.deadline_s * 1000),
        "ttl_ms": int(new.result_ttl_s * 1000),
        "hook": new.hook,
        "retry_of": new.retry_of,
        "trace": new.trace,
        "idem": new.idem,
        "nonce": new.nonce,
        "body_sha": new.body_sha,
        "by": new.by,
        "waiter": new.waiter,
        "limits": {
            "key_jobs": new.limits.key_jobs,
            "tenant_jobs": new.limits.tenant_jobs,
            "tenant_chars": new.limits.tenant_chars,
            "model_chars": new.limits.model_chars,
            "all_chars": new.limits.all_chars,
        },
    }

    def parse(reply: list[bytes]) -> Created:
        return Created(
            records.text(reply[0]),  # type: ignore[arg-type]  # a script's word
            int(reply[1]),
            float(reply[2]),
            _messages(queue, new.id, reply[4:]),
        )

    head = (orjson.dumps(header), new.opts, new.meta, new.answer, orjson.dumps(list(new.sizes)))
    return Call("create", (*head, _pairs(new.doc_ids), *new.blobs), parse)


# A worker's life with a shard


def claim(
    message: Message,
    nonce: str,
    worker: str,
    revision: str,
    *,
    max_version: int = names.WIRE_VERSION,
    lease_ms: int = LEASE_MS,
    at_risk: bool = False,
) -> Call[Claim]:
    """Take a shard for `worker`, or learn why its message is to be dropped.

    `at_risk` marks it in the same step, unless it has to run alone.
    """

    def parse(reply: list[Any]) -> Claim:
        kind = records.text(reply[0])
        if kind != "run":
            return Claim(kind)  # type: ignore[arg-type]  # a script's word
        blob, opts, attempts, mode, at, solo, tenant, trace, started, created = reply[1:11]
        return Claim(
            "run",
            blob,
            opts,
            int(attempts),
            int(mode) == 1,
            int(at),
            int(solo),
            records.text(tenant),
            records.text(trace),
            int(started),
            int(created),
            tuple(reply[11:]),
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
    )
    return Call("claim", args, parse)


def mark(worker: str, shards: Iterable[tuple[str, int]], left: Iterable[tuple[str, int]] = ()) -> Call[None]:
    """Write down the suspects if the process dies now: `shards` from now on, those that `left` no more."""
    gone, members = ([f"{job}:{shard}" for job, shard in some] for some in (left, shards))
    return Call("mark", (worker, MARK_TTL_MS, len(gone), *gone, *members), lambda _: None)


def renew(leases: Sequence[tuple[str, int, str]], lease_ms: int = LEASE_MS) -> Call[tuple[str, ...]]:
    """Longer leases for (job, shard, nonce)...; one of ok, stop, lost for each."""
    flat = [part for lease in leases for part in lease]
    return Call("renew", (lease_ms, *flat), lambda r: tuple(map(records.text, r)))


def step(job: str, shard: int, nonce: str, at: int, result: bytes = b"") -> Call[str]:
    """In a shard that runs alone: document `at` begins now, `result` is the one before. ok, stop or stale."""
    return Call("step", (job, shard, nonce, at, result), records.text)


def complete(
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
        kind = records.text(reply[0])
        if kind != "stored":
            return Completed(kind)  # type: ignore[arg-type]  # a script's word
        return Completed("stored", records.text(reply[1]), _messages(message.queue, message.job, reply[2:]))

    numbers = (succeeded, failed, orjson.dumps(usage), orjson.dumps(errors))
    known = [part for answer in answers for part in answer]
    args = (message.job, message.shard, nonce, result, leftover, *numbers, keep_ms, *known)
    return Call("complete", args, parse)


def release(job: str, shard: int, nonce: str) -> Call[Returned]:
    """Give a shard back unfinished (drain, stop); never an attempt."""
    return Call("release", (job, shard, nonce), _returned(job))


def worker_seen(model: str, worker: str, slots: int, revision: str) -> Call[None]:
    """Keep a worker on its model's list for the next half minute."""
    args = (names.slug(model), worker, WORKER_TTL_MS, slots, revision)
    return Call("worker_seen", args, lambda _: None)


def worker_left(model: str, worker: str) -> Call[None]:
    """Take a worker off its model's list."""
    return Call("worker_seen", (names.slug(model), worker, 0, 0, ""), lambda _: None)


def model_trouble(model: str, reason: str) -> Call[None]:
    """Say why workers of this model cannot start; the next that starts clears it."""
    return Call("model_trouble", (names.slug(model), reason), lambda _: None)


# A client's


def view(job: str) -> Call[Job | Gone | None]:
    """The job as it is now; Gone where it was purged; None where it never was."""

    def parse(reply: list[Any]) -> Job | Gone | None:
        kind = records.text(reply[0])
        if kind == "job":
            return records.job(job, reply[1])
        return Gone(records.text(reply[1])) if kind == "gone" else None

    return Call("view", (job,), parse)


def page(job: str, shard: int, max_bytes: int = 1 << 20) -> Call[Page | Gone | None]:
    """Finished shards from `shard` on, up to the first unfinished one or about `max_bytes`."""

    def parse(reply: list[Any]) -> Page | Gone | None:
        kind = records.text(reply[0])
        if kind == "page":
            rows = tuple(StoredShard(int(r[0]), records.text(r[1]), int(r[2]), r[3]) for r in reply[2])
            return Page(records.job(job, reply[1]), rows, int(reply[3]))
        return Gone(records.text(reply[1])) if kind == "gone" else None

    return Call("page", (job, shard, max_bytes), parse)


def cancel(job: str) -> Call[str]:
    """closed, cancelling (something still runs), already, or absent."""
    return Call("cancel", (job,), records.text)


def purge(job: str) -> Call[str]:
    """purged, not_terminal, gone (was purged before), or absent."""
    return Call("purge", (job,), records.text)


def models(model_names: Sequence[str]) -> Call[tuple[ModelView, ...]]:
    """Workers, revision, backlog and trouble of each model."""

    def parse(reply: list[Any]) -> tuple[ModelView, ...]:
        return tuple(
            ModelView(
                name,
                int(row[0]),
                records.text(row[1]) or None,
                records.text(row[2]) or None,
                int(row[3]),
                int(row[4]),
                float(row[5]),
                int(row[6]),
            )
            for name, row in zip(model_names, reply, strict=True)
        )

    return Call("models", tuple(map(names.slug, model_names)), parse)


def ping_write() -> Call[int]:
    """A real write; the ledger's time."""
    return Call("ping_write", (), int)


# Upkeep's


def beat(lease_ms: int = LEASE_MS, silent_ms: int = 0, who: str = "") -> Call[Due | None]:
    """Upkeep's tick: holds leases after an outage, and says what is due (100 of each at most).

    None where the latest tick was less than `silent_ms` ago and another's than `who`.
    """

    def parse(reply: list[Any]) -> Due | None:
        return Due(*(tuple(map(records.text, part)) for part in reply)) if reply else None

    return Call("beat", (lease_ms, silent_ms, who), parse)


def expire(job: str) -> Call[str]:
    """Close a job past its deadline: expired, already, early or absent."""
    return Call("expire", (job,), records.text)


def lease_expired(job: str, shard: int) -> Call[Returned]:
    """Bring back a shard whose worker went silent."""
    return Call("lease_expired", (job, shard), _returned(job))


def defer_over(job: str, shard: int) -> Call[Returned]:
    """Publish again a shard that an older worker gave back as newer."""
    return Call("defer_over", (job, shard), _returned(job))


def look(slug: str) -> Call[tuple[tuple[str, int, str], ...]]:
    """(job, shard, state) of open shards whose time to be looked at has come, 200 at most."""

    def parse(reply: list[bytes]) -> tuple[tuple[str, int, str], ...]:
        flat = list(map(records.text, reply))
        return tuple((flat[i], int(flat[i + 1]), flat[i + 2]) for i in range(0, len(flat), 3))

    return Call("look", (slug,), parse)


def queue_seq(queue: str) -> Call[int]:
    """The latest seq given out for a queue."""
    return Call("queue_seq", (queue,), int)


def queue_tick(queue: str, seq: int, length: int, grace_ms: int = GRACE_MS) -> Call[tuple[Message, ...]]:
    """Publish again shards whose message is lost; `seq` was read before the broker's `length`."""

    def parse(reply: list[bytes]) -> tuple[Message, ...]:
        flat = list(map(records.text, reply))
        return tuple(Message(queue, flat[i], int(flat[i + 1]), int(flat[i + 2])) for i in range(0, len(flat), 3))

    return Call("queue_tick", (queue, seq, length, grace_ms), parse)


def unstage(job: str, *, now: bool = False) -> Call[bool]:
    """Drop a lapsed stage (`now`: any) and return its reservation; True if it was there."""
    return Call("unstage", (job, int(now)), bool)


def audit(job: str) -> Call[tuple[int, tuple[Message, ...]]]:
    """Recompute an open job's counts and indexes from its shards; facts mended, and shards to push."""

    def parse(reply: list[Any]) -> tuple[int, tuple[Message, ...]]:
        if len(reply) < 2:
            return 0, ()
        return int(reply[0]), _messages(records.text(reply[1]), job, reply[2:])

    return Call("audit", (job,), parse)


def _pairs(doc_ids: Sequence[tuple[str, int]]) -> bytes:
    flat: list[str] = []
    for doc_id, index in doc_ids:
        flat += (doc_id, str(index))
    return orjson.dumps(flat) if flat else b""


def _messages(queue: str, job: str, flat: Sequence[bytes]) -> tuple[Message, ...]:
    pairs = list(map(int, flat))
    return tuple(Message(queue, job, pairs[i], pairs[i + 1]) for i in range(0, len(pairs), 2))


def _returned(job: str) -> Callable[[list[bytes]], Returned]:
    def parse(reply: list[bytes]) -> Returned:
        kind = records.text(reply[0])
        if len(reply) < 4:
            return Returned(kind)
        return Returned(kind, (Message(records.text(reply[3]), job, int(reply[1]), int(reply[2])),))

    return parse


def open_work(tenant: str, by: str) -> Call[OpenWork]:
    """What a tenant has open now, and how many jobs of it one of its keys submitted."""
    return Call("open_work", (tenant, by), lambda r: OpenWork(*map(int, r)))
