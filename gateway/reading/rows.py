"""Turns one result into the bytes that a client gets: a JSON object, a line of NDJSON, rows of CSV.

It comes in parts, so that of a result of many entities not all bytes are in memory in addition to the entities.
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
"""A result -> its bytes, in parts: a tuple where there is one."""

CSV_COLUMNS = ("index", "id", "status", "start", "end", "text", "label", "score", "error")
CSV_HEAD = write_row(CSV_COLUMNS).encode()
_ENTITIES = 256
"""Entities of a part."""
_NO_ENTITIES = b'"entities":[]'


def as_json(result: DocumentResult) -> Iterable[bytes]:
    """Return one JSON object."""
    if len(result.entities) <= _ENTITIES:
        return (_json(result.to_dict()),)
    return _json_parts(result)


def _json_parts(result: DocumentResult) -> Iterator[bytes]:
    # The first of its kind: in a string before it, an id, its quotes would have a backslash before them.
    head, _, tail = _json(replace(result, entities=()).to_dict()).partition(_NO_ENTITIES)
    yield head + _NO_ENTITIES[:-1]
    for number, entities in enumerate(_batches(result.entities)):
        yield (b"," if number else b"") + _json([entity.to_dict() for entity in entities])[1:-1]
    yield _NO_ENTITIES[-1:] + tail


def as_line(result: DocumentResult) -> Iterable[bytes]:
    """Return one line of NDJSON."""
    if len(result.entities) <= _ENTITIES:
        return (_json(result.to_dict()) + b"\n",)
    return chain(_json_parts(result), (b"\n",))


def as_csv(result: DocumentResult, *, safe: bool = True) -> Iterable[bytes]:
    """Return a row for each entity, or a single one without entity; RFC 4180.

    `safe` guards texts that a spreadsheet would run as formulas.
    """
    head = (result.index, result.id, result.status.value)
    for entities in _batches(result.entities):
        rows = ((*head, e.start, e.end, e.text, e.label, e.score, "") for e in entities)
        yield "".join(write_row(row, safe=safe) for row in rows).encode()
    if not result.entities:
        code = "" if result.error is None else result.error.code.value
        yield write_row((*head, "", "", "", "", "", code), safe=safe).encode()


def _json(value: Any) -> bytes:
    return escape_line_breaks(orjson.dumps(value))


def _batches(entities: tuple[Entity, ...]) -> Iterator[tuple[Entity, ...]]:
    for first in range(0, len(entities), _ENTITIES):
        yield entities[first : first + _ENTITIES]
