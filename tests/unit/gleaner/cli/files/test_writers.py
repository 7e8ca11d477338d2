"""Results become files: every document in each of them, whole or not at all."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.files.result_rows import ENTITIES as ENTITY_TABLE
from gleaner.cli.files.result_rows import TEXTS
from gleaner.cli.files.writers import (
    BOM,
    Cells,
    Form,
    OutputFormat,
    format_of,
    make_encoder,
    open_writer,
    write_row,
)
from gleaner.models import DocumentError, Entity, Result
from jobs import cells as service_cells

ENTITIES = (Entity(0, 3, "Ada", "person", 0.9), Entity(8, 14, 'a "b",\nc', "x", 0.5))
RESULTS = [
    Result(0, "a", "succeeded", ENTITIES).to_json(),
    Result(1, "b\ud800", "failed", error=DocumentError("empty_text", "it is empty")).to_json(),
    Result(2, "c", "succeeded").to_json(),
]
ROWS = [
    (0, "a", "succeeded", 0, 3, "Ada", "person", 0.9, None),
    (0, "a", "succeeded", 8, 14, 'a "b",\nc', "x", 0.5, None),
    (1, "b\\ud800", "failed", None, None, None, None, None, "empty_text"),
    (2, "c", "succeeded", None, None, None, None, None, None),
]


def written(path: Path) -> Path:
    """Write the results to a file."""
    with open_writer(path, Form(format_of(path, None))) as write:
        for result in RESULTS:
            write(result)
    return path


@pytest.mark.parametrize(("name", "delimiter"), [("out.csv", ","), ("out.TSV", "\t")])
def test_a_table_has_a_row_an_entity_and_no_document_is_missing(tmp_path: Path, name: str, delimiter: str) -> None:
    """Quotes and newlines are kept; a document without entities has one row."""
    with written(tmp_path / name).open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file, delimiter=delimiter)
    assert tuple(head) == ENTITY_TABLE.columns
    assert rows == [["" if cell is None else str(cell) for cell in row] for row in ROWS]


def test_parquet_has_the_same_rows_with_their_types(tmp_path: Path) -> None:
    """Numbers are numbers, a missing value is null."""
    table = parquet.read_table(written(tmp_path / "out.parquet"))
    assert [tuple(row.values()) for row in table.to_pylist()] == ROWS
    assert str(table.schema.field("start").type) == "int64"
    assert str(table.schema.field("score").type) == "double"


def test_json_lines_have_all_there_is(tmp_path: Path) -> None:
    """Whatever the gateway said of each document."""
    lines = written(tmp_path / "out").read_text().splitlines()
    assert [json.loads(line) for line in lines] == RESULTS


@pytest.mark.parametrize("kind", OutputFormat)
def test_a_file_that_is_cut_off_is_not_there(tmp_path: Path, kind: OutputFormat) -> None:
    """The previous file is kept, and no other file is left behind."""
    (tmp_path / "out").write_text("before")

    def interrupted() -> None:
        with open_writer(tmp_path / "out", Form(kind)) as write:
            write(RESULTS[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    """No documents, no rows, but a file that reads."""
    with open_writer(tmp_path / "out.parquet", Form(OutputFormat.PARQUET)):
        pass
    assert parquet.read_table(tmp_path / "out.parquet").column_names == list(ENTITY_TABLE.columns)


def test_parquet_is_not_printed() -> None:
    """It needs a file, and the error says so."""
    with pytest.raises(CommandError, match="-o"):
        make_encoder(Form(OutputFormat.PARQUET))


def test_a_table_of_texts_has_a_row_a_document(tmp_path: Path) -> None:
    """For `gleaner redact`: the redacted text, or why there is none."""
    redacted = [Result(0, "a", "succeeded", ENTITIES, redacted_text="[PERSON] met").to_json(), RESULTS[1]]
    with open_writer(tmp_path / "out.parquet", Form(OutputFormat.PARQUET, table=TEXTS)) as write:
        for result in redacted:
            write(result)
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        (0, "a", "succeeded", "[PERSON] met", None),
        (1, "b\\ud800", "failed", None, "empty_text"),
    ]


@pytest.mark.parametrize("kind", [OutputFormat.CSV, OutputFormat.TSV])
@pytest.mark.parametrize(
    "value",
    ['=HYPERLINK("http://a")', "+47 22 33 44 55", "-1", "@user", "\tx", "\rx", "\n=1", "＝1+1"],  # noqa: RUF001
)
def test_no_cell_is_a_formula(kind: OutputFormat, value: str) -> None:
    """Ids and texts of strangers are text in a spreadsheet; raw ones are written only where asked for."""
    line = Result(0, value, "succeeded", (Entity(0, 3, value, value, 0.5),)).to_json()

    def cells(form: Form) -> list[str]:
        _, encode = make_encoder(form)
        (row,) = csv.reader(
            encode(line).decode().splitlines(keepends=True), delimiter="," if kind == "csv" else "\t"
        )
        return [row[1], row[5], row[6]]

    assert cells(Form(kind)) == [f"'{value}"] * 3
    assert cells(Form(kind, Cells.RAW)) == [value] * 3


def test_excel_is_told_of_utf_8() -> None:
    """A byte order mark where asked for; other formats have none, and say so."""
    head, _ = make_encoder(Form(OutputFormat.CSV, bom=True))
    assert head.startswith(b"\xef\xbb\xbfindex,")
    with pytest.raises(CommandError, match="--bom"):
        Form(OutputFormat.JSONL, bom=True)


@pytest.mark.parametrize(
    "text", ["a\u2028b", "a\x85b", "a\u2029b", "a\x0bb\x0cc\x1cd", "a\x1b[2Jb\x9b2J", "a\u202eb"]
)
def test_a_json_line_is_one_line_to_every_reader(text: str) -> None:
    """Python's `splitlines` among them; read as JSON it is unchanged."""
    _, encode = make_encoder(Form())
    line = encode(Result(0, text, "succeeded").to_json()).decode()
    assert len(line.splitlines()) == 1
    assert not set(line) & set("\x1b\x9b\u202e")
    assert json.loads(line)["id"] == text


@given(
    st.lists(st.text(st.characters(codec=None)) | st.none() | st.floats() | st.integers()),
    st.sampled_from([",", "\t"]),
    st.booleans(),
)
def test_the_client_and_the_service_write_the_same_cells(cells: list[Any], delimiter: str, safe: bool) -> None:
    """The client is installed without the service and has a copy of its function."""
    assert write_row(cells, delimiter, safe=safe) == service_cells.write_row(cells, delimiter, safe=safe)
    assert service_cells.BOM == BOM
