"""Reads of the ledger: a job, its results, lists, one document, leftovers, cached results."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

import orjson

from jobs.ledger import parsing
from jobs.ledger.types import (
    Call,
    FoundDocument,
    Gone,
    JobList,
    JobPosition,
    Leftovers,
    OpenWork,
    Page,
    StoredResult,
    StoredShard,
)
from jobs.schema import Job, JobStatus

T = TypeVar("T")


def read_job(job: str) -> Call[Job | Gone | None]:
    """Read a job; Gone if it was purged, None if it never existed."""
    return Call("read_job", (job,), _unless_gone("job", lambda reply: parsing.parse_job(job, reply[1])))


def read_page(job: str, shard: int, max_bytes: int = 1 << 20) -> Call[Page | Gone | None]:
    """Read finished shards from `shard` on, up to the first unfinished one or about `max_bytes`."""

    def parse(reply: list[Any]) -> Page:
        return _page(job, reply[1], reply[2], int(reply[3]))

    return Call("read_page", (job, shard, max_bytes), _unless_gone("page", parse))


def parse_announced_page(job: str, announcement: bytes) -> Page | None:
    """Parse the only page of an ended job from its announcement by `complete_shard`; None if it must be read."""
    head, _, blobs = announcement.partition(b"\n")
    try:
        ended, row, (result, opts, meta) = orjson.loads(head)
        if len(blobs) != result + opts + meta:
            return None
        ended |= {"opts": blobs[result : result + opts], "meta": blobs[result + opts :]}
        fields = [part for field in ended.items() for part in field]
        return _page(job, fields, [[*row, blobs[:result]]], 1)
    except (LookupError, TypeError, ValueError):  # another version's announcement
        return None


def _page(job: str, fields: Sequence[Any], rows: Iterable[Sequence[Any]], total: int) -> Page:
    shards = tuple(StoredShard(int(row[0]), parsing.to_text(row[1]), int(row[2]), row[3]) for row in rows)
    return Page(parsing.parse_job(job, fields), shards, total)


def list_jobs(
    tenant: str,
    limit: int,
    *,
    created_after: int | None = None,
    behind: JobPosition | None = None,
    statuses: Collection[JobStatus] = (),
) -> Call[JobList]:
    """List a tenant's jobs, newest first, without their options.

    Args:
        tenant: the tenant.
        limit: maximum number of jobs.
        created_after: only jobs created later (ms).
        behind: the position at which the previous page ended.
        statuses: only jobs in one of these statuses; all if empty.
    """

    def parse(reply: list[Any]) -> JobList:
        jobs = tuple(parsing.parse_job(parsing.to_text(row[0]), row[1]) for row in reply[3])
        return JobList(jobs, JobPosition(int(reply[1]), parsing.to_text(reply[2])) if reply[0] else None)

    after = "" if created_after is None else created_after
    position = ("", "") if behind is None else (behind.created, behind.id)
    return Call("list_jobs", (tenant, limit, after, *position, *sorted(statuses)), parse)


def find_document(job: str, doc_id: str) -> Call[FoundDocument | Gone | None]:
    """Find the shard that would hold the document with this id; the caller checks that it does."""

    def parse(reply: list[Any]) -> FoundDocument:
        parsed_job = parsing.parse_job(job, reply[1])
        if len(reply) == 2:
            return FoundDocument(parsed_job, 0, None)
        index, shard, state, attempts, blob = reply[2:]
        stored = StoredShard(int(shard), parsing.to_text(state), int(attempts), blob)
        return FoundDocument(parsed_job, int(index), stored)

    number = doc_id if doc_id.isascii() and doc_id.isdigit() and len(doc_id) < 10 else ""
    return Call("find_document", (job, doc_id, number), _unless_gone("document", parse))


def read_leftovers(job: str, shard: int, max_bytes: int = 1 << 18) -> Call[Leftovers | Gone | None]:
    """Read the payloads of documents that did not succeed, from `shard` on, about `max_bytes` of them."""

    def parse(reply: list[Any]) -> Leftovers:
        blobs = tuple((int(row[0]), row[1]) for row in reply[2])
        following = int(reply[3])
        rest = None if following < 0 else following
        return Leftovers(parsing.parse_job(job, reply[1]), blobs, rest, parsing.to_text(reply[4]), bool(reply[5]))

    return Call("read_leftovers", (job, shard, max_bytes), _unless_gone("page", parse))


def find_cached_results(
    tenant: str, cache_keys: Sequence[str], max_bytes: int = 1 << 22
) -> Call[tuple[StoredResult | None, ...]]:
    """Find the tenant's cached results by cache key, in about `max_bytes` of results; None for a miss."""

    def parse(reply: list[Any]) -> tuple[StoredResult | None, ...]:
        blobs = {(parsing.to_text(job), int(shard)): blob for job, shard, blob in reply[1]}

        def stored_result(reference: bytes | None) -> StoredResult | None:
            job, shard, at = parsing.to_text(reference).rsplit(":", 2) if reference else ("", 0, 0)
            blob = blobs.get((job, int(shard)))
            return None if blob is None else StoredResult(job, int(shard), int(at), blob)

        return tuple(map(stored_result, reply[0]))

    return Call("find_cached_results", (tenant, max_bytes, *cache_keys), parse)


def read_versions(jobs: Sequence[str]) -> Call[tuple[int, ...]]:
    """Read each job's version; -1 if there is no such job."""
    return Call("read_versions", tuple(jobs), lambda reply: tuple(map(int, reply)))


def read_open_work(tenant: str, key_id: str) -> Call[OpenWork]:
    """Read a tenant's open work and stored bytes, and the number of open jobs that one of its keys submitted."""
    return Call("read_open_work", (tenant, key_id), lambda r: OpenWork(*map(int, r)))


def _unless_gone(kind: str, parse: Callable[[list[Any]], T]) -> Callable[[list[Any]], T | Gone | None]:
    """Return a parser of replies about one job: `parse` for this kind, Gone, or None for an unknown job."""

    def parse_reply(reply: list[Any]) -> T | Gone | None:
        answer = parsing.to_text(reply[0])
        if answer == kind:
            return parse(reply)
        return Gone(parsing.to_text(reply[1])) if answer == "gone" else None

    return parse_reply
