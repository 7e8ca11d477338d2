"""Turns what the ledger's scripts answer into the shared types, and names the places its blobs belong to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jobs.ledger.types import Message, ShardReturn
from jobs.schema import DEFAULT_THRESHOLD, Counts, Job, JobStatus, Priority, Usage

NO_WORKER_MS = 10 * 60_000
"""A job that waited this long with no live worker says so in `status_reason`."""


def text(value: bytes | str) -> str:
    """A reply's word as str."""
    return value.decode() if isinstance(value, bytes) else value


def associated_data(kind: str, job: str, shard: int | None = None, at: int | None = None) -> str:
    """Where a blob belongs: what the codec binds its encryption to. kind: in, out, part, opts, meta."""
    parts = [kind, job, *(str(n) for n in (shard, at) if n is not None)]
    return ":".join(parts)


def job(job_id: str, flat: Sequence[bytes]) -> Job:
    """A job from `describe` of the scripts; of one that has ended, its own fields are enough."""
    h = {text(flat[i]): flat[i + 1] for i in range(0, len(flat), 2)}

    def number(name: str) -> int:
        return int(h.get(name) or 0)

    def optional(name: str) -> str | None:
        return text(h[name]) if h.get(name) else None

    total, running = number("total"), number("run")
    ended = [number(name) for name in ("ok", "failed", "canc", "exp")]
    counts = Counts(total, total - running - sum(ended), running, *ended)
    status = JobStatus(text(h["state"]))
    revision, other = optional("rev"), optional("rev2")
    warnings = (f"documents ran on two revisions of the model: {revision} and {other}",) if other else ()
    return Job(
        id=job_id,
        tenant=text(h["tenant"]),
        status=status,
        status_reason=_reason(status, h, number),
        counts=counts,
        eta_s=_eta(
            status, number("left"), number("model_chars"), number("queue_jobs"), float(h.get("drain_rate") or 0)
        ),
        queue_position=number("position") or None if status is JobStatus.QUEUED else None,
        usage=Usage(
            characters=number("chars"),
            windows=number("usage_windows"),
            windowed_documents=number("usage_windowed"),
            truncated_documents=number("usage_truncated"),
        ),
        model=text(h["model"]),
        model_revision=revision,
        priority=Priority(text(h["priority"])),
        created_at=number("created"),
        started_at=number("started") or None,
        finished_at=number("finished") or None,
        deadline_at=number("deadline"),
        results_expire_at=number("purge_at") or None,
        error_summary={
            name.removeprefix("err:"): int(value) for name, value in sorted(h.items()) if name.startswith("err:")
        },
        opts=h["opts"],
        meta=h.get("meta", b""),
        retry_of=optional("retry_of"),
        retried_by=optional("retried_by"),
        version=number("v"),
        now=number("now"),
        warnings=warnings,
        # Workers of older versions recorded none; they knew this one alone.
        default_threshold=float(h.get("threshold") or DEFAULT_THRESHOLD) if revision else None,
    )


def _reason(status: JobStatus, h: dict[str, bytes], number: object) -> str | None:
    if status.is_terminal or int(h["workers"]) > 0:
        return None
    if h.get("model_reason"):
        return f"model_unavailable: {text(h['model_reason'])}"
    waited = int(h["now"]) - int(h["created"])
    return "no_worker" if waited > NO_WORKER_MS else None


def _eta(status: JobStatus, left: int, backlog: int, jobs: int, rate: float) -> float | None:
    """Seconds to go at the model's measured rate, its open jobs taking turns; None where it was never measured."""
    if status.is_terminal:
        return 0.0
    if rate <= 0:
        return None
    return round(min(max(backlog, left), left * max(1, jobs)) / rate, 1)


def messages(queue: str, job: str, flat: Sequence[bytes]) -> tuple[Message, ...]:
    """A job's published shards, from (shard, seq, ...)."""
    pairs = list(map(int, flat))
    return tuple(Message(queue, job, pairs[i], pairs[i + 1]) for i in range(0, len(pairs), 2))


def turns(queue: str, flat: Sequence[bytes]) -> tuple[Message, ...]:
    """Return published shards of any jobs, from (job, shard, seq, ...)."""
    return tuple(Message(queue, text(flat[i]), int(flat[i + 1]), int(flat[i + 2])) for i in range(0, len(flat), 3))


def returned(job: str) -> Callable[[list[bytes]], ShardReturn]:
    """Reads what became of a shard that was given back, and what is to be pushed."""

    def parse(reply: list[bytes]) -> ShardReturn:
        kind = text(reply[0])
        if len(reply) < 4:
            return ShardReturn(kind)
        return ShardReturn(kind, (Message(text(reply[3]), job, int(reply[1]), int(reply[2])),))

    return parse
