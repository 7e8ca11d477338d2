"""Parses the replies of the ledger's scripts into typed values, and names the associated data of its blobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TypeVar

from jobs.ledger.outcomes import ReturnOutcome
from jobs.ledger.types import Message, ShardReturn
from jobs.schema import DEFAULT_THRESHOLD, Counts, Job, JobStatus, Priority, Usage

E = TypeVar("E", bound=StrEnum)
NO_WORKER_MS = 10 * 60_000
"""A job that has waited this long without a live worker gets `status_reason` no_worker."""


def to_text(value: bytes | str) -> str:
    """Decode a string of a reply."""
    return value.decode() if isinstance(value, bytes) else value


def enum_parser(kind: type[E]) -> Callable[[bytes | str], E]:
    """Return a parser of replies that are one member of an enum."""
    return lambda reply: kind(to_text(reply))


def associated_data(kind: str, job: str, shard: int | None = None, at: int | None = None) -> str:
    """Return the data that the codec binds a blob's encryption to. kind: in, out, part, opts, meta, ep, labels."""
    parts = [kind, job, *(str(n) for n in (shard, at) if n is not None)]
    return ":".join(parts)


def parse_job(job_id: str, flat: Sequence[bytes]) -> Job:
    """Parse the (name, value, ...) that the scripts' `describe_job` returns; an ended job's own fields suffice."""
    fields = {to_text(flat[i]): flat[i + 1] for i in range(0, len(flat), 2)}

    def number(name: str) -> int:
        return int(fields.get(name) or 0)

    def optional_text(name: str) -> str | None:
        return to_text(fields[name]) if fields.get(name) else None

    total, running = number("total"), number("run")
    ended = [number(name) for name in ("ok", "failed", "canc", "exp")]
    counts = Counts(total, total - running - sum(ended), running, *ended)
    status = JobStatus(to_text(fields["state"]))
    revision, second_revision = optional_text("rev"), optional_text("rev2")
    warnings = (
        (f"documents ran on two revisions of the model: {revision} and {second_revision}",)
        if second_revision
        else ()
    )
    return Job(
        id=job_id,
        tenant=to_text(fields["tenant"]),
        status=status,
        status_reason=_status_reason(status, fields),
        counts=counts,
        eta_s=_estimate_eta(
            status,
            number("left"),
            number("model_chars"),
            number("queue_jobs"),
            float(fields.get("drain_rate") or 0),
        ),
        queue_position=number("position") or None if status is JobStatus.QUEUED else None,
        usage=Usage(
            characters=number("chars"),
            windows=number("usage_windows"),
            windowed_documents=number("usage_windowed"),
            truncated_documents=number("usage_truncated"),
        ),
        model=to_text(fields["model"]),
        model_revision=revision,
        priority=Priority(to_text(fields["priority"])),
        created_at=number("created"),
        started_at=number("started") or None,
        finished_at=number("finished") or None,
        deadline_at=number("deadline"),
        results_expire_at=number("purge_at") or None,
        error_summary={
            name.removeprefix("err:"): int(value)
            for name, value in sorted(fields.items())
            if name.startswith("err:")
        },
        opts=fields["opts"],
        meta=fields.get("meta", b""),
        retry_of=optional_text("retry_of"),
        retried_by=optional_text("retried_by"),
        label_set=optional_text("label_set"),
        version=number("v"),
        now=number("now"),
        warnings=warnings,
        # Workers of older versions record no threshold; they always used this one.
        default_threshold=float(fields.get("threshold") or DEFAULT_THRESHOLD) if revision else None,
    )


def _status_reason(status: JobStatus, fields: dict[str, bytes]) -> str | None:
    if status.is_terminal or int(fields["workers"]) > 0:
        return None
    if fields.get("model_reason"):
        return f"model_unavailable: {to_text(fields['model_reason'])}"
    waited = int(fields["now"]) - int(fields["created"])
    return "no_worker" if waited > NO_WORKER_MS else None


def _estimate_eta(status: JobStatus, left: int, backlog: int, jobs: int, rate: float) -> float | None:
    """Return the remaining seconds at the model's measured rate, shared by its open jobs; None if not measured."""
    if status.is_terminal:
        return 0.0
    if rate <= 0:
        return None
    return round(min(max(backlog, left), left * max(1, jobs)) / rate, 1)


def parse_messages(queue: str, flat: Sequence[bytes]) -> tuple[Message, ...]:
    """Parse published shards of any jobs, (job, shard, seq, ...)."""
    return tuple(
        Message(queue, to_text(flat[i]), int(flat[i + 1]), int(flat[i + 2])) for i in range(0, len(flat), 3)
    )


def shard_return_parser(job: str) -> Callable[[list[bytes]], ShardReturn]:
    """Return a parser of the outcome of returning a shard, and of the message to be pushed."""

    def parse(reply: list[bytes]) -> ShardReturn:
        kind = ReturnOutcome(to_text(reply[0]))
        if len(reply) < 4:
            return ShardReturn(kind)
        return ShardReturn(kind, (Message(to_text(reply[3]), job, int(reply[1]), int(reply[2])),))

    return parse
