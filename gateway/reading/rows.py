"""Encodes one result as a JSON object, a line of NDJSON or rows of CSV.

A result with many entities comes in parts, so that its bytes are never all in memory next to the entities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, TypeVar

import orjson

from jobs.cells import write_row
from jobs.lines import escape_line_breaks
from jobs.schema import DocumentResult
from jobs.tasks import Task

T = TypeVar("T")
Encode = Callable[[DocumentResult], Iterable[bytes]]
"""A result -> its bytes, in parts; a tuple of one for a small result."""
Cells = tuple[object, ...]

_PER_PART = 256
"""Entities, relations or rows of CSV in one part."""


def encode_json(result: DocumentResult) -> Iterable[bytes]:
    """Return one JSON object."""
    if _is_small(result):
        return (_dump_json(result.to_dict()),)
    return _encode_json_parts(result)


def encode_ndjson_line(result: DocumentResult) -> Iterable[bytes]:
    """Return one line of NDJSON."""
    if _is_small(result):
        return (_dump_json(result.to_dict()) + b"\n",)
    return chain(_encode_json_parts(result), (b"\n",))


def _is_small(result: DocumentResult) -> bool:
    return len(result.entities) <= _PER_PART and len(result.relations or ()) <= _PER_PART


def _encode_json_parts(result: DocumentResult) -> Iterator[bytes]:
    entities = (entity.to_dict() for entity in result.entities)
    relations = (relation._asdict() for relation in result.relations or ())
    empty = replace(result, entities=(), relations=None if result.relations is None else ())
    rest = _dump_json(empty.to_dict())
    for name, items in (("entities", entities), ("relations", relations)):
        # The first match is the field itself: within a string before it (an id) its quotes would be escaped.
        empty_list = f'"{name}":[]'.encode()
        head, match, tail = rest.partition(empty_list)
        if match:
            yield head + empty_list[:-1]
            for number, part in enumerate(_split(items)):
                yield (b"," if number else b"") + _dump_json(part)[1:-1]
            rest = empty_list[-1:] + tail
    yield rest


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A kind of rows of CSV (RFC 4180).

    Attributes:
        columns: between those of the document and the error.
        list_rows: the cells of those columns, row by row.
    """

    columns: tuple[str, ...]
    list_rows: Callable[[DocumentResult], Iterator[Cells]]

    @property
    def header(self) -> bytes:
        """The first row."""
        return write_row(("index", "id", "status", *self.columns, "error")).encode()

    def encode(self, result: DocumentResult, *, safe: bool = True) -> Iterator[bytes]:
        """Yield the rows of a result, or a single one with empty cells if it has none.

        `safe` escapes texts that a spreadsheet would run as formulas.
        """
        document = (result.index, result.id, result.status.value)
        is_empty = True
        for rows in _split(self.list_rows(result)):
            is_empty = False
            yield "".join(write_row((*document, *cells, ""), safe=safe) for cells in rows).encode()
        if is_empty:
            code = "" if result.error is None else result.error.code.value
            yield write_row((*document, *("" for _ in self.columns), code), safe=safe).encode()


def _list_entities(result: DocumentResult) -> Iterator[Cells]:
    return (entity[:5] for entity in result.entities)


def _list_relations(result: DocumentResult) -> Iterator[Cells]:
    for relation in result.relations or ():
        head, tail = result.entities[relation.head], result.entities[relation.tail]
        yield (relation.label, relation.score, relation.head, *head[:4], relation.tail, *tail[:4])


def _list_classes(result: DocumentResult) -> Iterator[Cells]:
    for name, scores in (result.classifications or {}).items():
        yield from ((name, score.label, score.score) for score in scores)


CSV_TABLES: Mapping[Task, CsvTable] = {
    Task.ENTITIES: CsvTable(("start", "end", "text", "label", "score"), _list_entities),
    Task.RELATIONS: CsvTable(
        (
            "relation", "score",
            "head", "head_start", "head_end", "head_text", "head_label",
            "tail", "tail_start", "tail_end", "tail_text", "tail_label",
        ),
        _list_relations,
    ),
    Task.CLASSIFICATIONS: CsvTable(("classification", "label", "score"), _list_classes),
}  # fmt: skip


def _dump_json(value: Any) -> bytes:
    return escape_line_breaks(orjson.dumps(value))


def _split(items: Iterator[T]) -> Iterator[list[T]]:
    while part := list(islice(items, _PER_PART)):
        yield part
