"""A document's result -> rows of a table, or lines for people.

A table of entities, relations or classes has one row for each, in the columns of the gateway's CSV; a document
without any has one row, with its error code if it failed, so that no document is missing. A table of texts has one
row per document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gleaner.cli.escaping import escape_text

Line = Mapping[str, Any]
"""A result as JSON, `Result.to_json`."""

_END: Final = ("start", "end", "text", "label")
"""Columns of an entity that is the head or tail of a relation."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of a table, and a function that returns a result's rows; None is an empty cell."""

    columns: tuple[str, ...]
    rows: Callable[[Line], Iterator[Sequence[Any]]]


class TableName(StrEnum):
    """Contents of a table: one row for each of them."""

    ENTITIES = "entities"
    RELATIONS = "relations"
    CLASSIFICATIONS = "classifications"


def _table_of(columns: tuple[str, ...], list_cells: Callable[[Line], Iterator[Sequence[Any]]]) -> Table:
    """Return a table with those columns between the document's and its error."""

    def rows(line: Line) -> Iterator[Sequence[Any]]:
        head, is_empty = (line["index"], line["id"], line["status"]), True
        for cells in list_cells(line):
            is_empty = False
            yield (*head, *cells, None)
        if is_empty:
            yield (*head, *(None for _ in columns), line["error"] and line["error"]["code"])

    return Table(("index", "id", "status", *columns, "error"), rows)


def _entity_cells(line: Line) -> Iterator[Sequence[Any]]:
    return ((*(entity[name] for name in _END), entity["score"]) for entity in line["entities"])


def _relation_cells(line: Line) -> Iterator[Sequence[Any]]:
    for relation in line.get("relations") or ():
        cells = [relation["label"], relation["score"]]
        for end in (relation["head"], relation["tail"]):
            cells += [end, *(line["entities"][end][name] for name in _END)]
        yield cells


def _class_cells(line: Line) -> Iterator[Sequence[Any]]:
    for name, scores in (line.get("classifications") or {}).items():
        yield from ((name, score["label"], score["score"]) for score in scores)


def text_rows(line: Line) -> Iterator[Sequence[Any]]:
    """Yield one row, with the redacted text."""
    error = line["error"] and line["error"]["code"]
    yield (line["index"], line["id"], line["status"], line.get("redacted_text"), error)


ENTITIES: Final = _table_of((*_END, "score"), _entity_cells)
RELATIONS: Final = _table_of(
    ("relation", "score", *(f"{end}{name}" for end in ("head", "tail") for name in ("", *(f"_{x}" for x in _END)))),
    _relation_cells,
)
CLASSIFICATIONS: Final = _table_of(("classification", "label", "score"), _class_cells)
TEXTS: Final = Table(("index", "id", "status", "text", "error"), text_rows)
TABLES: Final[Mapping[TableName, Table]] = {
    TableName.ENTITIES: ENTITIES,
    TableName.RELATIONS: RELATIONS,
    TableName.CLASSIFICATIONS: CLASSIFICATIONS,
}


def describe_result(line: Line) -> str:
    """Return a result as lines for people: id or error, entities, relations as head -> label -> tail, classes."""
    if line["status"] != "succeeded":
        why = line["error"]["detail"] if line["error"] else line["status"]
        return escape_text(f"{line['id']}: {why}") + "\n"
    entities = line["entities"]
    lines = [f"{line['id']}:"]
    lines += [f"  {entity['text']} ({entity['label']}) {entity['score']:.2f}" for entity in entities]
    for item in line.get("relations") or ():
        head, tail = entities[item["head"]]["text"], entities[item["tail"]]["text"]
        lines.append(f"  {head} -> {item['label']} -> {tail} {item['score']:.2f}")
    for name, scores in (line.get("classifications") or {}).items():
        classes = ", ".join(f"{score['label']} {score['score']:.2f}" for score in scores)
        lines.append(f"  {name}: {classes or 'none'}")
    return "".join(f"{escape_text(text)}\n" for text in lines)
