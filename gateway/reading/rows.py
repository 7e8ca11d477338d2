"""Encodes one result as a JSON object, a line of NDJSON or rows of CSV.

A result with many entities comes in parts, so that its bytes are never all in memory next to the entities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import orjson

from jobs.cells import write_row
from jobs.lines import escape_line_breaks
from jobs.schema import DocumentResult, Entity

Encode = Callable[[DocumentResult], Iterable[bytes]]
"""A result -> its bytes, in parts; a tuple of one for a small result."""

CSV_COLUMNS = ("index", "id", "status", "start", "end", "text", "label", "score", "error")
CSV_HEADER = write_row(CSV_COLUMNS).encode()
_ENTITIES_PER_PART = 256
_EMPTY_LIST = b'"entities":[]'


def encode_json(result: DocumentResult) -> Iterable[bytes]:
    """Return one JSON object."""
    if len(result.entities) <= _ENTITIES_PER_PART:
        return (_dump_json(result.to_dict()),)
    return _encode_json_parts(result)


def _encode_json_parts(result: DocumentResult) -> Iterator[bytes]:
    # The first match is the field itself: within a string before it (an id) its quotes would be escaped.
    head, _, tail = _dump_json(replace(result, entities=()).to_dict()).partition(_EMPTY_LIST)
    yield head + _EMPTY_LIST[:-1]
    for number, entities in enumerate(_split_entities(result.entities)):
        yield (b"," if number else b"") + _dump_json([entity.to_dict() for entity in entities])[1:-1]
    yield _EMPTY_LIST[-1:] + tail


def encode_ndjson_line(result: DocumentResult) -> Iterable[bytes]:
    """Return one line of NDJSON."""
    if len(result.entities) <= _ENTITIES_PER_PART:
        return (_dump_json(result.to_dict()) + b"\n",)
    return chain(_encode_json_parts(result), (b"\n",))


def encode_csv_rows(result: DocumentResult, *, safe: bool = True) -> Iterable[bytes]:
    """Return one row per entity, or a single row for a result without entities (RFC 4180).

    `safe` escapes texts that a spreadsheet would run as formulas.
    """
    head = (result.index, result.id, result.status.value)
    for entities in _split_entities(result.entities):
        rows = ((*head, e.start, e.end, e.text, e.label, e.score, "") for e in entities)
        yield "".join(write_row(row, safe=safe) for row in rows).encode()
    if not result.entities:
        code = "" if result.error is None else result.error.code.value
        yield write_row((*head, "", "", "", "", "", code), safe=safe).encode()


def _dump_json(value: Any) -> bytes:
    return escape_line_breaks(orjson.dumps(value))


def _split_entities(entities: tuple[Entity, ...]) -> Iterator[tuple[Entity, ...]]:
    for first in range(0, len(entities), _ENTITIES_PER_PART):
        yield entities[first : first + _ENTITIES_PER_PART]
