"""What is read of the ledger: a job, its results, lists, a document, leftovers, answers, the backlog."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from typing import Any

import orjson

from jobs import naming
from jobs.ledger import parsing
from jobs.ledger.types import (
    Backlog,
    Call,
    FoundDocument,
    Gone,
    JobList,
    JobPosition,
    Leftovers,
    ModelFacts,
    ModelView,
    OpenWork,
    Page,
    QueueBacklog,
    StoredAnswer,
    StoredShard,
)
from jobs.schema import Job, JobStatus, Priority


def read_job(job: str) -> Call[Job | Gone | None]:
    """The job as it is now; Gone where it was purged; None where it never was."""

    def parse(reply: list[Any]) -> Job | Gone | None:
        kind = parsing.text(reply[0])
        if kind == "job":
            return parsing.job(job, reply[1])
        return Gone(parsing.text(reply[1])) if kind == "gone" else None

    return Call("read_job", (job,), parse)


def read_page(job: str, shard: int, max_bytes: int = 1 << 20) -> Call[Page | Gone | None]:
    """Finished shards from `shard` on, up to the first unfinished one or about `max_bytes`."""

    def parse(reply: list[Any]) -> Page | Gone | None:
        kind = parsing.text(reply[0])
        if kind == "page":
            return _page(job, reply[1], reply[2], int(reply[3]))
        return Gone(parsing.text(reply[1])) if kind == "gone" else None

    return Call("read_page", (job, shard, max_bytes), parse)


def parse_announced_page(job: str, told: bytes) -> Page | None:
    """The only page of an ended job, as `complete` announced it to the job's waiter; None: it is to be read."""
    head, _, blobs = told.partition(b"\n")
    try:
        ended, row, (result, opts, meta) = orjson.loads(head)
        if len(blobs) != result + opts + meta:
            return None
        ended |= {"opts": blobs[result : result + opts], "meta": blobs[result + opts :]}
        described = [part for field in ended.items() for part in field]
        return _page(job, described, [[*row, blobs[:result]]], 1)
    except (LookupError, TypeError, ValueError):  # of a worker that tells it otherwise
        return None


def _page(job: str, described: Sequence[Any], rows: Iterable[Sequence[Any]], total: int) -> Page:
    shards = tuple(StoredShard(int(row[0]), parsing.text(row[1]), int(row[2]), row[3]) for row in rows)
    return Page(parsing.job(job, described), shards, total)


def list_jobs(
    tenant: str,
    limit: int,
    *,
    created_after: int | None = None,
    behind: JobPosition | None = None,
    statuses: Collection[JobStatus] = (),
) -> Call[JobList]:
    """A tenant's jobs, newest first, at most `limit`; without their options.

    Args:
        tenant: whose.
        limit: most jobs.
        created_after: only jobs created later (ms).
        behind: the place that the list before ended at.
        statuses: only jobs in one of these; all if empty.
    """

    def parse(reply: list[Any]) -> JobList:
        jobs = tuple(parsing.job(parsing.text(row[0]), row[1]) for row in reply[3])
        return JobList(jobs, JobPosition(int(reply[1]), parsing.text(reply[2])) if reply[0] else None)

    after = "" if created_after is None else created_after
    place = ("", "") if behind is None else (behind.created, behind.id)
    return Call("list_jobs", (tenant, limit, after, *place, *sorted(statuses)), parse)


def find_document(job: str, doc_id: str) -> Call[FoundDocument | Gone | None]:
    """The shard that would hold a document of this id; the caller looks whether it does."""

    def parse(reply: list[Any]) -> FoundDocument | Gone | None:
        kind = parsing.text(reply[0])
        if kind != "document":
            return Gone(parsing.text(reply[1])) if kind == "gone" else None
        found = parsing.job(job, reply[1])
        if len(reply) == 2:
            return FoundDocument(found, 0, None)
        index, shard, state, attempts, blob = reply[2:]
        return FoundDocument(found, int(index), StoredShard(int(shard), parsing.text(state), int(attempts), blob))

    number = doc_id if doc_id.isascii() and doc_id.isdigit() and len(doc_id) < 10 else ""
    return Call("find_document", (job, doc_id, number), parse)


def read_leftovers(job: str, shard: int, max_bytes: int = 1 << 18) -> Call[Leftovers | Gone | None]:
    """Payloads of a job's documents that did not succeed, from `shard` on, about `max_bytes` of them."""

    def parse(reply: list[Any]) -> Leftovers | Gone | None:
        kind = parsing.text(reply[0])
        if kind != "page":
            return Gone(parsing.text(reply[1])) if kind == "gone" else None
        blobs = tuple((int(row[0]), row[1]) for row in reply[2])
        following = int(reply[3])
        rest = None if following < 0 else following
        return Leftovers(parsing.job(job, reply[1]), blobs, rest, parsing.text(reply[4]), bool(reply[5]))

    return Call("read_leftovers", (job, shard, max_bytes), parse)


def find_cached_results(
    tenant: str, questions: Sequence[str], max_bytes: int = 1 << 22
) -> Call[tuple[StoredAnswer | None, ...]]:
    """Where the tenant's answers to these questions lie, in about `max_bytes` of results; None: nowhere."""

    def parse(reply: list[Any]) -> tuple[StoredAnswer | None, ...]:
        blobs = {(parsing.text(job), int(shard)): blob for job, shard, blob in reply[1]}

        def answer(place: bytes | None) -> StoredAnswer | None:
            job, shard, at = parsing.text(place).rsplit(":", 2) if place else ("", 0, 0)
            blob = blobs.get((job, int(shard)))
            return None if blob is None else StoredAnswer(job, int(shard), int(at), blob)

        return tuple(map(answer, reply[0]))

    return Call("find_cached_results", (tenant, max_bytes, *questions), parse)


def read_backlog(model: str) -> Call[Backlog]:
    """What is open of a model, how fast it goes, and how its two queues stand."""
    priorities = tuple(Priority)

    def parse(reply: list[Any]) -> Backlog:
        now, workers, slots, jobs, characters, shards = map(int, reply[:6])
        oldest = parsing.text(reply[7])
        queues = tuple(
            QueueBacklog(priority, *map(int, row)) for priority, row in zip(priorities, reply[9:], strict=True)
        )
        return Backlog(
            model=model,
            workers=workers,
            slots=slots,
            open_jobs=jobs,
            open_characters=characters,
            open_shards=shards,
            drain_rate=float(reply[6]),
            oldest_ms=now - int(float(oldest)) if oldest else None,
            reason=parsing.text(reply[8]) or None,
            queues=queues,
        )

    return Call(
        "read_backlog", (naming.model_slug(model), *(naming.queue_name(model, p) for p in priorities)), parse
    )


def read_versions(jobs: Sequence[str]) -> Call[tuple[int, ...]]:
    """Each job's version, -1 where there is no such job."""
    return Call("read_versions", tuple(jobs), lambda reply: tuple(map(int, reply)))


def read_models(model_names: Sequence[str]) -> Call[tuple[ModelView, ...]]:
    """Workers, revision, backlog and trouble of each model."""

    def parse(reply: list[Any]) -> tuple[ModelView, ...]:
        return tuple(
            ModelView(
                name,
                int(row[0]),
                parsing.text(row[1]) or None,
                parsing.text(row[2]) or None,
                int(row[3]),
                int(row[4]),
                float(row[5]),
                int(row[6]),
                _facts(row[7], row[1]),
            )
            for name, row in zip(model_names, reply, strict=True)
        )

    return Call("read_models", tuple(map(naming.model_slug, model_names)), parse)


def _facts(stored: bytes, revision: bytes) -> ModelFacts | None:
    """Return what a model can do, if that was announced for the revision that it has now."""
    content = orjson.loads(stored) if stored else {}
    if content.pop("revision", None) != parsing.text(revision):
        return None
    names_of = {field.name for field in fields(ModelFacts)}
    return ModelFacts(**{name: value for name, value in content.items() if name in names_of})


def read_open_work(tenant: str, by: str) -> Call[OpenWork]:
    """What a tenant has open and keeps now, and how many open jobs one of its keys submitted."""
    return Call("read_open_work", (tenant, by), lambda r: OpenWork(*map(int, r)))
