"""Reads stored shards row by row: results of a finished shard, or placeholders for one that never ran."""

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
"""Prefix of a shard whose texts were dropped: not a blob of the codec, but its documents' ids in clear text."""
_UNFINISHED = {"c": DocumentStatus.CANCELLED, "x": DocumentStatus.EXPIRED, "r": DocumentStatus.RUNNING}
_STATUS = re.compile(rb'\{"i":\d+,"s":"([a-z]+)"')
_AT_ONCE_BYTES = 1 << 20
"""A larger shard is decompressed in chunks, so that only one of its rows is in memory at a time."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in a job's results: the shard, and the number of its documents already read."""

    shard: int = 0
    offset: int = 0


class Row(NamedTuple):  # created per document, in half the time of a frozen dataclass
    """One document of a stored shard, not decoded yet.

    Attributes:
        raw: the row as stored.
        last: True for the last row of the shard.
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
        """The document's status, read without decoding the rest."""
        if self.shard.state != "d":
            return _UNFINISHED.get(self.shard.state, DocumentStatus.QUEUED)
        match = _STATUS.match(self.raw)
        return DocumentStatus(match[1].decode()) if match else self.result().status

    def result(self) -> DocumentResult:
        """Decode the row."""
        if self.shard.state == "d":
            return decode_result(self.raw)
        document = decode_document(self.raw)
        return DocumentResult(document.index, document.id, self.status, attempts=self.shard.attempts)


def open_shard(job_id: str, stored: StoredShard, codec: Codec) -> Packed:
    """Return a stored shard, authenticated and still compressed.

    Raises:
        CodecError: it cannot be decoded.
    """
    bound_to = associated_data("out" if stored.state == "d" else "in", job_id, stored.shard)
    if stored.blob.startswith(_IDS_ONLY):
        return codec.pack(_payload_of_ids(stored.blob), bound_to)
    return codec.unseal(stored.blob, bound_to)


def read_rows(stored: StoredShard, packed: Packed, codec: Codec, offset: int = 0) -> Iterator[Row]:
    """Yield the rows of a shard that `open_shard` opened, in input order, from the row `offset` on.

    Raises:
        CodecError: it is damaged; some rows may have been yielded before.
    """
    chunks = codec.iter_chunks(packed) if packed.size > _AT_ONCE_BYTES else iter((codec.unpack(packed),))
    for raw, last in split_rows(chunks, offset):
        yield Row(stored, raw, last)


def _payload_of_ids(blob: bytes) -> bytes:
    """Return the payload of a shard whose texts `drop_texts` removed: ids without texts."""
    first, count, named = orjson.loads(blob[len(_IDS_ONLY) :])
    names = dict(zip(named[::2], named[1::2], strict=True)) if named else {}  # Lua writes an empty list as {}
    return encode_documents([Document(at, names.get(at, str(at)), "") for at in range(first, first + count)])
