"""Reads stored shards row by row: a finished shard's results, or what stands for them where it never ran."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from jobs.codec import Codec, Packed
from jobs.ledger import StoredShard, associated_data
from jobs.schema import Document, DocumentResult, DocumentStatus
from jobs.shards import decode_document, decode_result, encode_documents, row_index, split_rows

_IDS_ONLY = b"ids:"
"""How a shard begins whose texts were dropped: no blob of the codec, but its documents' ids in the clear."""
_UNFINISHED = {"c": DocumentStatus.CANCELLED, "x": DocumentStatus.EXPIRED, "r": DocumentStatus.RUNNING}
_STATUS = re.compile(rb'\{"i":\d+,"s":"([a-z]+)"')
_AT_ONCE_BYTES = 1 << 20
"""A larger shard is decompressed piece by piece: its rows are then in memory one at a time."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a job's results: the shard, and how many of its documents were read."""

    shard: int = 0
    offset: int = 0


class Row(NamedTuple):  # made for each document: half of the time of a frozen dataclass
    """One document of a stored shard, not decoded yet.

    Attributes:
        raw: its row as stored.
        last: no other follows in the shard.
    """

    shard: StoredShard
    raw: bytes
    last: bool

    @property
    def document(self) -> int:
        """The document's index."""
        return row_index(self.raw)

    @property
    def status(self) -> DocumentStatus:
        """The document's, read without decoding the rest."""
        if self.shard.state != "d":
            return _UNFINISHED.get(self.shard.state, DocumentStatus.QUEUED)
        match = _STATUS.match(self.raw)
        return DocumentStatus(match[1].decode()) if match else self.result().status

    def result(self) -> DocumentResult:
        """Decode it."""
        if self.shard.state == "d":
            return decode_result(self.raw)
        document = decode_document(self.raw)
        return DocumentResult(document.index, document.id, self.status, attempts=self.shard.attempts)


def open_shard(job_id: str, stored: StoredShard, codec: Codec) -> Packed:
    """Return what is stored of a shard, authenticated and still compressed.

    Raises:
        CodecError: it cannot be read.
    """
    where = associated_data("out" if stored.state == "d" else "in", job_id, stored.shard)
    if stored.blob.startswith(_IDS_ONLY):
        return codec.pack(_payload_of_ids(stored.blob), where)
    return codec.unseal(stored.blob, where)


def read_rows(stored: StoredShard, packed: Packed, codec: Codec, offset: int = 0) -> Iterator[Row]:
    """Yield the rows of a shard that `open_shard` opened, in input order, from the row `offset` on.

    Raises:
        CodecError: it is damaged; rows may have been read before that shows.
    """
    pieces = codec.iter_chunks(packed) if packed.size > _AT_ONCE_BYTES else iter((codec.unpack(packed),))
    for raw, last in split_rows(pieces, offset):
        yield Row(stored, raw, last)


def _payload_of_ids(blob: bytes) -> bytes:
    """Return the payload of a shard whose texts were dropped (`drop_texts` of the ledger): ids without texts."""
    first, count, named = orjson.loads(blob[len(_IDS_ONLY) :])
    names = dict(zip(named[::2], named[1::2], strict=True)) if named else {}  # Lua writes an empty list as {}
    return encode_documents([Document(at, names.get(at, str(at)), "") for at in range(first, first + count)])
