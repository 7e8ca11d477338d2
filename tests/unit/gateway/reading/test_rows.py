"""One result as JSON, as a line, and as rows of CSV."""

from __future__ import annotations

import csv
import io
import json

import pytest

from gateway.reading.rows import CSV_COLUMNS, CSV_HEADER, encode_csv_rows, encode_json, encode_ndjson_line
from jobs.schema import DocumentError, DocumentErrorCode, DocumentResult, DocumentStatus, Entity

ENTITIES = tuple(Entity(n, n + 1, 'a"\u2028', '"entities":[]', 0.5) for n in range(1000))


@pytest.mark.parametrize("count", [0, 1, 256, 257, 1000])
def test_a_result_is_the_same_in_parts(count: int) -> None:
    """A result of many entities is the same when it is written in parts."""
    result = DocumentResult(0, '"entities":[]', DocumentStatus.SUCCEEDED, ENTITIES[:count], text='"entities":[]')
    assert json.loads(b"".join(encode_json(result))) == json.loads(json.dumps(result.to_dict()))
    assert b"".join(encode_ndjson_line(result)).decode().splitlines() == [b"".join(encode_json(result)).decode()]
    assert len(b"".join(encode_csv_rows(result)).decode().split("\r\n")) == max(count, 1) + 1


def read_csv(result: DocumentResult, *, safe: bool = True) -> list[dict[str, str]]:
    """Return the rows of a result as a CSV reader sees them."""
    text = (CSV_HEADER + b"".join(encode_csv_rows(result, safe=safe))).decode()
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
    assert tuple(failed) == CSV_COLUMNS
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
