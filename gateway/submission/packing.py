"""Encodes a job for the ledger: its head -> blobs, its documents -> one payload per shard. Pure.

Every blob is bound to its location in the ledger (`jobs.ledger.associated_data`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from gateway.submission.parsing.job import Head
from jobs.codec import Codec
from jobs.cost import Costs
from jobs.ledger import associated_data
from jobs.schema import Document
from jobs.shards import cut_shards, encode_documents, wire_options, wire_version
from jobs.tasks import Tasks


@dataclass(frozen=True, slots=True)
class PackedDocuments:
    """A job's documents as the ledger stores them.

    Attributes:
        sizes: documents and cost (`jobs.cost`) of each shard, in order.
        version: the wire version that a worker must support to run them.
        characters: total length of the texts (code points).
        blobs: the shards' payloads in order; empty if they are staged.
        doc_ids: (document id, index) of documents whose id is not their index; empty if they are staged.
        staged_bytes: size of the staged payloads and ids.
    """

    job_id: str
    sizes: Sequence[tuple[int, int]]
    version: int
    characters: int
    blobs: Sequence[bytes] = ()
    doc_ids: Sequence[tuple[str, int]] = ()
    staged_bytes: int = 0

    @property
    def count(self) -> int:
        """Number of documents."""
        return sum(documents for documents, _ in self.sizes)

    @property
    def cost(self) -> int:
        """Total cost of the documents."""
        return sum(cost for _, cost in self.sizes)


def pack_documents(codec: Codec, job_id: str, documents: Iterable[Document], tasks: Tasks) -> PackedDocuments:
    """Pack the documents of a JSON job; at most one shard of them is in memory at once."""
    sizes: list[tuple[int, int]] = []
    blobs: list[bytes] = []
    ids: list[tuple[str, int]] = []
    version, characters, costs = 1, 0, Costs(tasks)
    for shard in cut_shards(documents, weigh=costs.shard_weight):
        blobs.append(pack_shard(codec, job_id, len(sizes), shard))
        sizes.append((len(shard), sum(map(costs.document_cost, shard))))
        characters += count_characters(shard)
        ids += explicit_ids(shard)
        version = max(version, wire_version(shard))
    return PackedDocuments(job_id, sizes, version, characters, blobs, ids)


def pack_head(codec: Codec, job_id: str, head: Head) -> tuple[bytes, bytes]:
    """Encode a job's tasks and options, and its metadata (b"" without any)."""
    opts = orjson.dumps({**head.tasks.to_wire(), "options": wire_options(head.options)})
    meta = codec.encode(orjson.dumps(head.metadata), associated_data("meta", job_id)) if head.metadata else b""
    return codec.encode(opts, associated_data("opts", job_id)), meta


def pack_shard(codec: Codec, job_id: str, number: int, documents: Sequence[Document]) -> bytes:
    """Encode a shard's documents as its payload."""
    return codec.encode(encode_documents(documents), associated_data("in", job_id, number))


def count_characters(documents: Sequence[Document]) -> int:
    """Return the total length of the texts (code points)."""
    return sum(len(document.text) for document in documents)


def explicit_ids(documents: Sequence[Document]) -> list[tuple[str, int]]:
    """Return (id, index) of the documents whose id is not their index."""
    return [(document.id, document.index) for document in documents if document.id != str(document.index)]
