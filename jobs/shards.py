"""A job's documents as shards: cut by size, written as JSON, read back. Pure; compression is `jobs.codec`'s."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple
from typing import Any

import orjson

from jobs.schema import (
    Document,
    DocumentError,
    DocumentErrorCode,
    DocumentResult,
    DocumentStatus,
    Entity,
    Explanation,
    Options,
)

MAX_SHARD_DOCUMENTS = 32
MAX_SHARD_CHARACTERS = 256 * 1024
MAX_SHARDS = 10_000

_OLDER_CODES = {
    DocumentErrorCode.TOO_COSTLY: DocumentErrorCode.INPUT_TOO_LONG,
    DocumentErrorCode.TOO_MANY_ENTITIES: DocumentErrorCode.INPUT_TOO_LONG,
}
"""Codes that older gateways do not know, and what they read instead."""

_NEWER_OPTIONS = {"redact": 2, "explain": 2, "merge_adjacent": 3}
"""The wire version from which on workers know an option; those not named here always did."""


def cut_shards(
    documents: Iterable[Document],
    max_documents: int = MAX_SHARD_DOCUMENTS,
    max_characters: int = MAX_SHARD_CHARACTERS,
    weigh: Callable[[Document], int] = lambda document: len(document.text),
) -> Iterator[tuple[Document, ...]]:
    """Slice documents, in order, into shards.

    A shard ends before the document that would take it past `max_documents` or `max_characters`
    (code points, or what `jobs.cost` makes of them); a longer document is a shard by itself. Characters
    decide so that a worker's slot frees about every micro-batch, whatever the mix of lengths.
    """
    shard: list[Document] = []
    characters = 0
    for document in documents:
        weight = weigh(document)
        full = len(shard) >= max_documents or characters + weight > max_characters
        if shard and full:
            yield tuple(shard)
            shard, characters = [], 0
        shard.append(document)
        characters += weight
    if shard:
        yield tuple(shard)


def wire_options(options: Options) -> dict[str, Any]:
    """A job's options as stored: only what is asked for; an older worker would not take what it does not know."""
    return options.model_dump(exclude_defaults=True)


def wire_version(documents: Iterable[Document], options: Options | None = None) -> int:
    """The wire version that a worker must know to run these documents as they ask."""
    asked = set({} if options is None else wire_options(options))
    asked.update(*(document.options for document in documents if document.options))
    return max((_NEWER_OPTIONS.get(name, 1) for name in asked), default=1)


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
    """Return the documents that `encode_documents` wrote."""
    return tuple(map(_document, orjson.loads(payload)))


def _document(row: dict[str, Any]) -> Document:
    return Document(
        index=row["i"],
        id=row.get("id", str(row["i"])),
        text=row["t"],
        labels=row.get("l"),
        options=row.get("o"),
        error=_error(row.get("e")),
    )


def encode_results(results: Iterable[DocumentResult]) -> bytes:
    """Return a finished shard's results as JSON bytes, defaults left out.

    Written row by row, so that no more than one result is in memory as objects in addition to those given.
    """
    return b"[%b]" % b",".join(map(_result_row, results))


def _result_row(result: DocumentResult) -> bytes:
    row: dict[str, Any] = {
        "i": result.index,
        "s": result.status,
        "w": result.windows,
        "a": result.attempts,
    }
    if result.id != str(result.index):
        row["id"] = result.id
    if result.entities:
        row["n"] = [e[:5] for e in result.entities]
    if result.truncated:
        row["c"] = True
    if result.warnings:
        row["g"] = result.warnings
    if result.error is not None:
        code = result.error.code
        row["e"] = [_OLDER_CODES.get(code, code), result.error.detail]
        if code in _OLDER_CODES:
            row["ec"] = code
    if result.text is not None:
        row["t"] = result.text
    if result.redacted_text is not None:
        row["r"] = result.redacted_text
        row["rn"] = [e.redacted for e in result.entities]
    if any(e.explain for e in result.entities):
        row["x"] = [e.explain and astuple(e.explain) for e in result.entities]
    return orjson.dumps(row)


def decode_results(blob: bytes) -> tuple[DocumentResult, ...]:
    """Return the results that `encode_results` wrote."""
    return tuple(map(_result, orjson.loads(blob)))


def split_rows(pieces: Iterable[bytes], skip: int = 0) -> Iterator[tuple[bytes, bool]]:
    """Cut what `encode_results` or `encode_documents` wrote into its rows, and say which is the last.

    `skip` rows are left out. No more is in memory than a piece and the row that it ends in.
    """
    buffer, begin, row = bytearray(), 1, 0  # 1: behind the bracket
    for piece in pieces:
        scan = max(begin, len(buffer) - len(_ROW_ENDS) + 1)
        buffer += piece
        while (at := buffer.find(_ROW_ENDS, scan)) >= 0:
            if row >= skip:
                yield bytes(memoryview(buffer)[begin : at + 1]), False
            row += 1
            begin = scan = at + 2
        del buffer[:begin]
        begin = 0
    if len(buffer) > 1 and row >= skip:
        yield bytes(memoryview(buffer)[:-1]), True


_ROW_ENDS = b'},{"i":'
"""Where a row ends and the next begins. In a string the quote would have a backslash before it, and no row holds an
object behind another one: labels and options are followed by another key."""


def row_index(row: bytes) -> int:
    """Return the index of the document that a row is about."""
    return int(row[5 : row.index(b",", 5)])


def decode_result(row: bytes) -> DocumentResult:
    """Return one of the rows of `encode_results`."""
    return _result(orjson.loads(row))


def decode_document(row: bytes) -> Document:
    """Return one of the rows of `encode_documents`."""
    return _document(orjson.loads(row))


def _result(row: dict[str, Any]) -> DocumentResult:
    return DocumentResult(
        index=row["i"],
        id=row.get("id", str(row["i"])),
        status=DocumentStatus(row["s"]),
        entities=_entities(row),
        windows=row["w"],
        truncated=row.get("c", False),
        warnings=tuple(row.get("g", ())),
        attempts=row["a"],
        error=_error(row.get("e"), row.get("ec")),
        text=row.get("t"),
        redacted_text=row.get("r"),
    )


def _entities(row: dict[str, Any]) -> tuple[Entity, ...]:
    """Kept in columns of their own, what only some results have does not trouble older readers."""
    found = row.get("n", ())
    if "rn" not in row and "x" not in row:
        return tuple(Entity(*entity) for entity in found)
    places = row.get("rn", (None,) * len(found))
    reasons = row.get("x", (None,) * len(found))
    return tuple(
        Entity(*entity)._replace(redacted=place and (place[0], place[1]), explain=reason and _explanation(*reason))
        for entity, place, reason in zip(found, places, reasons, strict=True)
    )


def _explanation(runners_up: list[list[Any]], window: list[int], confidence: float | None) -> Explanation:
    return Explanation(tuple((label, score) for label, score in runners_up), (window[0], window[1]), confidence)


def _error(stored: list[str] | None, newer: str | None = None) -> DocumentError | None:
    """The error; a code that this version does not know has one in its place that every version knows."""
    if stored is None:
        return None
    code = newer if newer in _OLDER_CODES else stored[0]
    return DocumentError(DocumentErrorCode(code), stored[1])
