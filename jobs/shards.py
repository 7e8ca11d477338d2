"""Cuts a job's documents into shards, and encodes and decodes shards as JSON. Pure; `jobs.codec` compresses."""

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
from jobs.tasks import ClassScore, Relation, Tasks, dump_questions, parse_classifications, parse_relations

MAX_SHARD_DOCUMENTS = 32
MAX_SHARD_CHARACTERS = 256 * 1024
MAX_SHARDS = 10_000

_OLDER_CODES = {
    DocumentErrorCode.TOO_COSTLY: DocumentErrorCode.INPUT_TOO_LONG,
    DocumentErrorCode.TOO_MANY_ENTITIES: DocumentErrorCode.INPUT_TOO_LONG,
}
"""Codes that older gateways do not know -> codes that they read instead."""

_NEWER_OPTIONS = {
    "redact": 2, "explain": 2, "merge_adjacent": 3, "relation_threshold": 4, "class_aggregation": 4
}  # fmt: skip
"""First wire version in which workers know an option; options not listed have always existed."""
_TASKS_VERSION = 4
"""First wire version in which workers know relations and classifications."""


def cut_shards(
    documents: Iterable[Document],
    max_documents: int = MAX_SHARD_DOCUMENTS,
    max_characters: int = MAX_SHARD_CHARACTERS,
    weigh: Callable[[Document], int] = lambda document: len(document.text),
) -> Iterator[tuple[Document, ...]]:
    """Cut documents, in order, into shards.

    A shard ends before the document that would exceed `max_documents` or `max_characters` (code points, or the
    weight by `jobs.cost`); a longer document is a shard by itself. Characters count so that a worker's slot becomes
    free about every micro-batch, for every mix of lengths.
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
    """Return a job's options as stored: only those requested, since older workers reject unknown options."""
    return options.model_dump(exclude_defaults=True)


def wire_version(documents: Iterable[Document], options: Options | None = None, tasks: Tasks | None = None) -> int:
    """Return the wire version that a worker must know to run these documents with their options and tasks."""
    requested = set({} if options is None else wire_options(options))
    version = _TASKS_VERSION if tasks is not None and (tasks.relations or tasks.classifications) else 1
    for document in documents:
        requested.update(document.options or ())
        if document.relations is not None or document.classifications is not None:
            version = _TASKS_VERSION
    return max([version, *(_NEWER_OPTIONS.get(name, 1) for name in requested)])


def encode_documents(documents: Iterable[Document]) -> bytes:
    """Return a shard's payload as JSON bytes, without defaults."""
    rows: list[dict[str, Any]] = []
    for document in documents:
        row: dict[str, Any] = {"i": document.index, "t": document.text}
        if document.id != str(document.index):
            row["id"] = document.id
        if document.labels is not None:
            row["l"] = document.labels
        if document.relations is not None:
            row["q"] = dump_questions(document.relations)
        if document.classifications is not None:
            row["k"] = dump_questions(document.classifications)
        if document.options is not None:
            row["o"] = document.options
        if document.error is not None:
            row["e"] = [document.error.code, document.error.detail]
        rows.append(row)
    return orjson.dumps(rows)


def decode_documents(payload: bytes) -> tuple[Document, ...]:
    """Decode the output of `encode_documents`."""
    return tuple(map(_parse_document, orjson.loads(payload)))


def _parse_document(row: dict[str, Any]) -> Document:
    return Document(
        index=row["i"],
        id=row.get("id", str(row["i"])),
        text=row["t"],
        labels=row.get("l"),
        options=row.get("o"),
        error=_parse_error(row.get("e")),
        relations=parse_relations(row["q"]) if "q" in row else None,
        classifications=parse_classifications(row["k"]) if "k" in row else None,
    )


def encode_results(results: Iterable[DocumentResult]) -> bytes:
    """Return a finished shard's results as JSON bytes, without defaults; encoded row by row to save memory."""
    return b"[%b]" % b",".join(map(_encode_result, results))


def _encode_result(result: DocumentResult) -> bytes:
    row: dict[str, Any] = {
        "i": result.index,
        "s": result.status,
        "w": result.windows,
        "a": result.attempts,
    }
    if result.id != str(result.index):
        row["id"] = result.id
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
    return orjson.dumps(row | _dump_answers(result))


def _dump_answers(result: DocumentResult) -> dict[str, Any]:
    """Return what the model has found, in columns."""
    row: dict[str, Any] = {}
    if result.entities:
        row["n"] = [e[:5] for e in result.entities]
    if result.redacted_text is not None:
        row["r"] = result.redacted_text
        row["rn"] = [e.redacted for e in result.entities]
    if any(e.explain for e in result.entities):
        row["x"] = [e.explain and astuple(e.explain) for e in result.entities]
    if result.relations is not None:
        row["q"] = [tuple(relation) for relation in result.relations]
    if result.classifications is not None:
        row["k"] = {name: [tuple(score) for score in scores] for name, scores in result.classifications.items()}
    return row


def decode_results(blob: bytes) -> tuple[DocumentResult, ...]:
    """Decode the output of `encode_results`."""
    return tuple(map(_parse_result, orjson.loads(blob)))


def split_rows(chunks: Iterable[bytes], skip: int = 0) -> Iterator[tuple[bytes, bool]]:
    """Yield (row, is last) of the output of `encode_results` or `encode_documents`, after `skip` rows.

    Only one chunk and the row that it ends in are in memory.
    """
    buffer, begin, row = bytearray(), 1, 0  # 1: after the bracket
    for chunk in chunks:
        scan = max(begin, len(buffer) - len(_ROW_ENDS) + 1)
        buffer += chunk
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
"""The end of a row and the beginning of the next. In a string the quote would have a backslash before it, and no
row contains an object after another: labels and options are followed by another key."""


def row_index(row: bytes) -> int:
    """Return the document index of a row."""
    return int(row[5 : row.index(b",", 5)])


def decode_result(row: bytes) -> DocumentResult:
    """Decode one row of `encode_results`."""
    return _parse_result(orjson.loads(row))


def decode_document(row: bytes) -> Document:
    """Decode one row of `encode_documents`."""
    return _parse_document(orjson.loads(row))


def _parse_result(row: dict[str, Any]) -> DocumentResult:
    return DocumentResult(
        index=row["i"],
        id=row.get("id", str(row["i"])),
        status=DocumentStatus(row["s"]),
        entities=_parse_entities(row),
        windows=row["w"],
        truncated=row.get("c", False),
        warnings=tuple(row.get("g", ())),
        attempts=row["a"],
        error=_parse_error(row.get("e"), row.get("ec")),
        text=row.get("t"),
        redacted_text=row.get("r"),
        relations=tuple(Relation(*relation) for relation in row["q"]) if "q" in row else None,
        classifications=_parse_classes(row["k"]) if "k" in row else None,
    )


def _parse_classes(stored: dict[str, list[list[Any]]]) -> dict[str, tuple[ClassScore, ...]]:
    return {name: tuple(ClassScore(*score) for score in scores) for name, scores in stored.items()}


def _parse_entities(row: dict[str, Any]) -> tuple[Entity, ...]:
    """Parse a result's entities; redactions and explanations are separate columns, which older readers ignore."""
    entities = row.get("n", ())
    if "rn" not in row and "x" not in row:
        return tuple(Entity(*entity) for entity in entities)
    redactions = row.get("rn", (None,) * len(entities))
    explanations = row.get("x", (None,) * len(entities))
    return tuple(
        Entity(*entity)._replace(
            redacted=span and (span[0], span[1]), explain=reason and _parse_explanation(*reason)
        )
        for entity, span, reason in zip(entities, redactions, explanations, strict=True)
    )


def _parse_explanation(runners_up: list[list[Any]], window: list[int], confidence: float | None) -> Explanation:
    return Explanation(tuple((label, score) for label, score in runners_up), (window[0], window[1]), confidence)


def _parse_error(stored: list[str] | None, newer: str | None = None) -> DocumentError | None:
    """Parse an error; a newer code, unknown to some version, is stored next to one that every version knows."""
    if stored is None:
        return None
    code = newer if newer in _OLDER_CODES else stored[0]
    return DocumentError(DocumentErrorCode(code), stored[1])
