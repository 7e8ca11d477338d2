"""A job's documents as shards: cut by size, written as JSON, read back. Pure; compression is `jobs.codec`'s."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from jobs.schema import (
    Document,
    DocumentError,
    DocumentErrorCode,
    DocumentResult,
    DocumentStatus,
    Entity,
)

MAX_SHARD_DOCUMENTS = 32
MAX_SHARD_CHARACTERS = 256 * 1024
MAX_SHARDS = 10_000


def cut(
    documents: Iterable[Document],
    max_documents: int = MAX_SHARD_DOCUMENTS,
    max_characters: int = MAX_SHARD_CHARACTERS,
) -> Iterator[tuple[Document, ...]]:
    """Slice documents, in order, into shards.

    A shard ends before the document that would take it past `max_documents` or `max_characters`
    (code points); a longer document is a shard of its own. Characters decide so that a worker's slot
    frees about every micro-batch, whatever the mix of lengths.
    """
    shard: list[Document] = []
    characters = 0
    for document in documents:
        full = len(shard) >= max_documents or characters + len(document.text) > max_characters
        if shard and full:
            yield tuple(shard)
            shard, characters = [], 0
        shard.append(document)
        characters += len(document.text)
    if shard:
        yield tuple(shard)


def encode_documents(documents: Iterable[Document]) -> bytes:
    """A shard's payload as JSON bytes, defaults left out."""
    rows: list[dict[str, Any]] = []
    for document in documents:
        row: dict[str, Any] = {"i": document.index, "t": document.text}
        if document.id != str(document.index):
            row["id"] = document.id
        if document.labels is not None:
            row["l"] = document.labels
        if document.options is not None:
            row["o"] = document.options
        if document.error is not None:
            row["e"] = [document.error.code, document.error.detail]
        rows.append(row)
    return orjson.dumps(rows)


def decode_documents(payload: bytes) -> tuple[Document, ...]:
    """The documents that `encode_documents` wrote."""
    return tuple(
        Document(
            index=row["i"],
            id=row.get("id", str(row["i"])),
            text=row["t"],
            labels=row.get("l"),
            options=row.get("o"),
            error=_error(row.get("e")),
        )
        for row in orjson.loads(payload)
    )


def encode_results(results: Iterable[DocumentResult]) -> bytes:
    """A finished shard's results as JSON bytes, defaults left out."""
    rows: list[dict[str, Any]] = []
    for result in results:
        row: dict[str, Any] = {
            "i": result.index,
            "s": result.status,
            "w": result.windows,
            "a": result.attempts,
        }
        if result.id != str(result.index):
            row["id"] = result.id
        if result.entities:
            row["n"] = [[e.start, e.end, e.text, e.label, e.score] for e in result.entities]
        if result.truncated:
            row["c"] = True
        if result.warnings:
            row["g"] = result.warnings
        if result.error is not None:
            row["e"] = [result.error.code, result.error.detail]
        if result.text is not None:
            row["t"] = result.text
        rows.append(row)
    return orjson.dumps(rows)


def decode_results(blob: bytes) -> tuple[DocumentResult, ...]:
    """The results that `encode_results` wrote."""
    return tuple(
        DocumentResult(
            index=row["i"],
            id=row.get("id", str(row["i"])),
            status=DocumentStatus(row["s"]),
            entities=tuple(Entity(*entity) for entity in row.get("n", ())),
            windows=row["w"],
            truncated=row.get("c", False),
            warnings=tuple(row.get("g", ())),
            attempts=row["a"],
            error=_error(row.get("e")),
            text=row.get("t"),
        )
        for row in orjson.loads(blob)
    )


def _error(stored: list[str] | None) -> DocumentError | None:
    return None if stored is None else DocumentError(DocumentErrorCode(stored[0]), stored[1])
