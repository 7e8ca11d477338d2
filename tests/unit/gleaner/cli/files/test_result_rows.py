"""Results as rows of tables and as lines for people."""

from __future__ import annotations

from pathlib import Path

from pyarrow import parquet

from gateway.reading.rows import CSV_TABLES
from gleaner.cli.files.result_rows import TABLES, TEXTS, TableName, describe_result
from gleaner.cli.files.writers import Form, OutputFormat, make_encoder, open_writer
from gleaner.models import ClassScore, DocumentError, Entity, Relation, Result
from jobs import schema, tasks

ADA, BABBAGE = Entity(0, 3, "Ada", "person", 0.9), Entity(8, 15, "Bab\nage", "person", 0.8)
CLASSES = {"topic": (ClassScore("sport", 0.75), ClassScore("war", 0.25)), "mood": ()}
MET = (Relation("met", 0, 1, 0.7),)
RESULT = Result(0, "a", "succeeded", (ADA, BABBAGE), relations=MET, classifications=CLASSES)
FAILED = Result(1, "b", "failed", error=DocumentError("empty_text", "it is empty"))
PLAIN = Result(2, "c", "succeeded")


def test_csv_is_that_of_the_service() -> None:
    """Byte for byte, for each table; a document without a relation or class has one row."""
    served = [
        schema.DocumentResult(
            *(0, "a", schema.DocumentStatus.SUCCEEDED),
            entities=tuple(
                schema.Entity(item.start, item.end, item.text, item.label, item.score) for item in RESULT.entities
            ),
            relations=(tasks.Relation("met", 0, 1, 0.7),),
            classifications={
                name: tuple(tasks.ClassScore(item.label, item.score) for item in scores)
                for name, scores in CLASSES.items()
            },
        ),
        schema.DocumentResult(
            *(1, "b", schema.DocumentStatus.FAILED),
            error=schema.DocumentError(schema.DocumentErrorCode.EMPTY_TEXT, "it is empty"),
        ),
        schema.DocumentResult(2, "c", schema.DocumentStatus.SUCCEEDED),
    ]  # fmt: skip
    for name, table in TABLES.items():
        head, encode = make_encoder(Form(OutputFormat.CSV, table=table))
        written = head + b"".join(encode(result.to_json()) for result in (RESULT, FAILED, PLAIN))
        expected = CSV_TABLES[tasks.Task(name)]
        rows = b"".join(part for result in served for part in expected.encode(result))
        assert written == expected.header + rows


def test_parquet_of_relations_has_types(tmp_path: Path) -> None:
    """Positions are numbers, and null in the row of a document that failed."""
    with open_writer(tmp_path / "out", Form(OutputFormat.PARQUET, table=TABLES[TableName.RELATIONS])) as write:
        write(RESULT.to_json())
        write(FAILED.to_json())
    first, second = parquet.read_table(tmp_path / "out").to_pylist()
    assert (first["relation"], first["head"], first["tail_start"], first["tail_label"]) == ("met", 0, 8, "person")
    assert (second["tail"], second["error"]) == (None, "empty_text")


def test_a_result_for_people() -> None:
    """Line breaks in texts are escaped; a failed document has its reason."""
    assert describe_result(RESULT.to_json()).splitlines() == [
        "a:",
        "  Ada (person) 0.90",
        "  Bab\\nage (person) 0.80",
        "  Ada -> met -> Bab\\nage 0.70",
        "  topic: sport 0.75, war 0.25",
        "  mood: none",
    ]
    assert describe_result(FAILED.to_json()) == "b: it is empty\n"
    assert describe_result(Result(3, "d", "expired").to_json()) == "d: expired\n"


def test_a_table_of_texts_has_one_row_per_document() -> None:
    """Also if it has no entities."""
    assert list(TEXTS.rows(PLAIN.to_json())) == [(2, "c", "succeeded", None, None)]
