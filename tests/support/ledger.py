"""Short words for ledger tests: a job of given shards, blobs that name their place."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from jobs import ledger
from jobs.codec import Codec
from jobs.ledger import NewJob
from jobs.schema import Document, Priority
from jobs.shards import encode_documents

CODEC = Codec()
MODEL = "gleaner-small"


def new_job(
    job: str,
    sizes: Sequence[int] = (1,),
    *,
    tenant: str = "t1",
    priority: Priority = Priority.STANDARD,
    deadline_s: float = 600,
    ttl_s: float = 600,
    codec: Codec = CODEC,
    opts: bytes = b'{"labels": {"person": null}, "options": {}}',
    **more: object,
) -> NewJob:
    """Build a job with shards of these sizes, each document's text containing its index."""
    blobs, index = [], 0
    for shard, documents in enumerate(sizes):
        rows = [Document(index + i, str(index + i), f"text {index + i}") for i in range(documents)]
        index += documents
        blobs.append(codec.encode(encode_documents(rows), ledger.associated_data("in", job, shard)))
    fields: dict[str, object] = {
        "id": job,
        "tenant": tenant,
        "model": MODEL,
        "priority": priority,
        "opts": codec.encode(opts, ledger.associated_data("opts", job)),
        "sizes": [(documents, 7 * documents) for documents in sizes],
        "characters": 7 * sum(sizes),
        "blobs": blobs,
        "deadline_s": deadline_s,
        "result_ttl_s": ttl_s,
        **more,
    }
    return NewJob(**fields)  # type: ignore[arg-type]


def forget_memory(client: redis.Redis) -> None:
    """Have the next `create` ask how much memory there is; by itself it asks ten times a second."""
    client.hdel("{gleaner}:sys", "looked")
