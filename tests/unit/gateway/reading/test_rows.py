"""One result as JSON, as a line, and as rows of CSV."""

from __future__ import annotations

import csv
import io
import json

import pytest

from gateway.reading.rows import CSV_TABLES, encode_json, encode_ndjson_line
from jobs.schema import DocumentError, DocumentErrorCode, DocumentResult, DocumentStatus, Entity
from jobs.tasks import ClassScore, Relation, Task

ENTITY_COLUMNS = ("index", "id", "status", "start", "end", "text", "label", "score", "error")
ENTITIES = tuple(Entity(n, n + 1, 'a"\u2028', '"entities":[]', 0.5) for n in range(1000))


@pytest.mark.parametrize("count", [0, 1, 256, 257, 1000])
def test_a_result_is_the_same_in_parts(count: int) -> None:
    """A result of many entities is the same when it is written in parts."""
    result = DocumentResult(0, '"entities":[]', DocumentStatus.SUCCEEDED, ENTITIES[:count], text='"entities":[]')
    assert json.loads(b"".join(encode_json(result))) == json.loads(json.dumps(result.to_dict()))
    assert b"".join(encode_ndjson_line(result)).decode().splitlines() == [b"".join(encode_json(result)).decode()]
    assert len(b"".join(CSV_TABLES[Task.ENTITIES].encode(result)).decode().split("\r\n")) == max(count, 1) + 1


def read_csv(result: DocumentResult, task: Task = Task.ENTITIES, *, safe: bool = True) -> list[dict[str, str]]:
    """Return the rows of a result as a CSV reader sees them."""
    table = CSV_TABLES[task]
    text = (table.header + b"".join(table.encode(result, safe=safe))).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("count", [1, 256, 257])
def test_every_entity_is_a_row_in_order(count: int) -> None:
    """A CSV reader gets each entity once, with the document it belongs to."""
    rows = read_csv(DocumentResult(7, "doc", DocumentStatus.SUCCEEDED, ENTITIES[:count]))
    assert [int(row["start"]) for row in rows] == list(range(count))
    assert {(row["index"], row["id"], row["status"], row["error"]) for row in rows} == {
        ("7", "doc", "succeeded", "")
    }
    assert {row["text"] for row in rows} == {'a"\u2028'}


def test_a_result_without_entities_is_one_row() -> None:
    """A failed document shows its error's code; one that found nothing is there too."""
    error = DocumentError(DocumentErrorCode.EMPTY_TEXT, "the text is empty")
    [failed] = read_csv(DocumentResult(0, "a", DocumentStatus.FAILED, error=error))
    [nothing] = read_csv(DocumentResult(1, "b", DocumentStatus.SUCCEEDED))
    assert tuple(failed) == ENTITY_COLUMNS
    assert (failed["status"], failed["error"], failed["label"]) == ("failed", "empty_text", "")
    assert (nothing["status"], nothing["error"], nothing["label"]) == ("succeeded", "", "")


def test_a_formula_is_escaped_unless_the_caller_wants_the_text_itself() -> None:
    """A spreadsheet must not run what a document contains."""
    result = DocumentResult(0, "a", DocumentStatus.SUCCEEDED, (Entity(0, 4, "=1+1", "sum", 0.5),))
    assert read_csv(result, safe=True)[0]["text"] == "'=1+1"
    assert read_csv(result, safe=False)[0]["text"] == "=1+1"


def test_a_line_of_ndjson_has_no_other_line_break() -> None:
    """Readers that split at Unicode line breaks see one line, and the text is unchanged."""
    text = "a\u2028b\u2029c\u0085d\ne"
    result = DocumentResult(0, "a", DocumentStatus.SUCCEEDED, text=text)
    [line] = b"".join(encode_ndjson_line(result)).decode().splitlines()
    assert json.loads(line)["text"] == text


@pytest.mark.parametrize("count", [0, 256, 257, 600])
def test_many_relations_are_the_same_in_parts(count: int) -> None:
    """Also next to few entities, and to a classification whose name is that of the field."""
    relations = tuple(Relation("knows", 0, n % 2, n / 1000) for n in range(count))
    classifications = {"relations": (), "entities": (ClassScore("a", 0.5),)}
    for entities in (ENTITIES[:2], ENTITIES[:300]):
        for answer in (relations, None):
            result = DocumentResult(
                0, "a", DocumentStatus.SUCCEEDED, entities, relations=answer, classifications=classifications
            )
            assert json.loads(b"".join(encode_json(result))) == json.loads(json.dumps(result.to_dict()))


def test_the_rows_of_relations_show_both_entities() -> None:
    """A spreadsheet needs no second table to read them; a document without any is one row."""
    entities = (Entity(0, 3, "Ada", "person", 0.9), Entity(13, 17, "=Acme", "organisation", 0.8))
    result = DocumentResult(
        4, "d", DocumentStatus.SUCCEEDED, entities, relations=(Relation("works for", 0, 1, 0.75),)
    )
    [row] = read_csv(result, Task.RELATIONS)
    assert row == {
        "index": "4", "id": "d", "status": "succeeded", "relation": "works for", "score": "0.75",
        "head": "0", "head_start": "0", "head_end": "3", "head_text": "Ada", "head_label": "person",
        "tail": "1", "tail_start": "13", "tail_end": "17", "tail_text": "'=Acme", "tail_label": "organisation",
        "error": "",
    }  # fmt: skip
    [nothing] = read_csv(DocumentResult(0, "a", DocumentStatus.SUCCEEDED), Task.RELATIONS)
    assert (nothing["id"], nothing["relation"], nothing["head"]) == ("a", "", "")


def test_the_rows_of_classifications_are_their_classes() -> None:
    """In the order of the result; a failed document shows its error's code."""
    scores = {"topic": (ClassScore("sport", 0.7), ClassScore("politics", 0.3)), "tone": (ClassScore("calm", 0.9),)}
    rows = read_csv(DocumentResult(0, "a", DocumentStatus.SUCCEEDED, classifications=scores), Task.CLASSIFICATIONS)
    assert [(row["classification"], row["label"], row["score"]) for row in rows] == [
        ("topic", "sport", "0.7"), ("topic", "politics", "0.3"), ("tone", "calm", "0.9"),
    ]  # fmt: skip
    error = DocumentError(DocumentErrorCode.UNSUPPORTED_TASK, "the model cannot classify")
    [failed] = read_csv(DocumentResult(1, "b", DocumentStatus.FAILED, error=error), Task.CLASSIFICATIONS)
    assert (failed["classification"], failed["error"]) == ("", "unsupported_task")
