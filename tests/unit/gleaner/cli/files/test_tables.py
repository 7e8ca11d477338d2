"""Tables are read exactly as they were written, or a row is a fault; none is cut or merged silently."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gleaner.cli.files.readers import read_documents
from gleaner.cli.files.rows import Fault, Format, Quotes, Reading, Row

CELLS = st.text(st.sampled_from('ab \t,;|"\n\r\\=é😀\u2028'), max_size=8)
ROWS = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6)
DELIMITERS = st.sampled_from([",", ";", "\t", "|"])
QUOTING = st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
FEW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


def items(path: Path, content: str, kind: Format = Format.CSV, **options: Any) -> list[Row | Fault]:
    """Everything in the table."""
    path.write_bytes(content.encode())
    return list(read_documents(path, kind, Reading(**options), "t"))


def texts(read_items: list[Row | Fault]) -> list[str]:
    """Return the texts of the rows."""
    return [item.text for item in read_items if isinstance(item, Row)]


def faults(read_items: list[Row | Fault]) -> list[str]:
    """Return the faults as text."""
    return [str(item) for item in read_items if isinstance(item, Fault)]


def written(rows: list[tuple[str, str]], **dialect: Any) -> str:
    """Return the table as Python's `csv` writes it; rows are numbered, so that none equals the header."""
    text = io.StringIO()
    csv.writer(text, **dialect).writerows([("n", "text", "more"), *((n, *row) for n, row in enumerate(rows))])
    return text.getvalue()


def unquoted_breaks(rows: list[tuple[str, str]], end: str) -> bool:
    """Return True if Python's writer, before 3.13, leaves the other kind of line break without quotes."""
    return any(set(cell) & (set("\r\n") - set(end)) for row in rows for cell in row)


@FEW
@given(ROWS, DELIMITERS, QUOTING, st.sampled_from(["\n", "\r\n", "\r"]))
def test_what_pythons_csv_writes(tmp_path: Path, rows: list[Any], delimiter: str, quoting: Any, end: str) -> None:
    """Is read back exactly, the delimiter found out or said."""
    content = written(rows, delimiter=delimiter, quoting=quoting, lineterminator=end)
    for read_items in (items(tmp_path / "t", content), items(tmp_path / "t", content, delimiter=delimiter)):
        assert texts(read_items) == [row[0] for row in rows] or (faults(read_items) and unquoted_breaks(rows, end))


@FEW
@given(ROWS, DELIMITERS)
def test_what_pandas_writes(tmp_path: Path, rows: list[Any], delimiter: str) -> None:
    """Index and all."""
    read_items = items(tmp_path / "t", pandas.DataFrame(rows, columns=["text", "b"]).to_csv(sep=delimiter))
    assert texts(read_items) == [row[0] for row in rows] or (faults(read_items) and unquoted_breaks(rows, "\n"))


@FEW
@example(rows=[("\r", "\n"), ("", '"'), ("\t", '"a'), ("", "\t\t")], quoting=csv.QUOTE_MINIMAL)
@example(rows=[("", ""), ("\r", "\n"), ("\t", ""), ("\t\r", "")], quoting=csv.QUOTE_MINIMAL)
@given(ROWS, QUOTING)
def test_tsv_that_quotes_cells(tmp_path: Path, rows: list[Any], quoting: Any) -> None:
    """Tables of spreadsheets and pandas are read exactly, or a fault says that a quote may be a character."""
    for content in (
        written(rows, delimiter="\t", quoting=quoting),
        pandas.DataFrame(rows, columns=["text", "b"]).to_csv(sep="\t"),
    ):
        read_items = items(tmp_path / "t", content, Format.TSV)
        if not faults(read_items):
            assert texts(read_items) == [row[0] for row in rows]
        elif not any(set(cell) & set("\n\r\t") for row in rows for cell in row):
            raise AssertionError(faults(read_items))


@FEW
@given(st.lists(st.tuples(*[st.text(st.sampled_from("ab \"',é"), max_size=8)] * 2), min_size=1, max_size=6))
def test_tsv_whose_quotes_are_characters(tmp_path: Path, rows: list[Any]) -> None:
    """Cells that no pair of quotes encloses are read as they are; with --quotes literal all are."""
    content = "n\ttext\tmore\n" + "".join(f"{n}\t{a}\t{b}\n" for n, (a, b) in enumerate(rows))
    assert texts(items(tmp_path / "t", content, Format.TSV, quotes=Quotes.LITERAL)) == [row[0] for row in rows]
    if not any(cell.startswith('"') for row in rows for cell in row):
        assert texts(items(tmp_path / "t", content, Format.TSV)) == [row[0] for row in rows]


@FEW
@given(ROWS, DELIMITERS, QUOTING, st.data())
def test_csv_that_lost_a_quote(tmp_path: Path, rows: list[Any], delimiter: str, quoting: Any, data: Any) -> None:
    """It is a fault: no rows are merged, no cell is cut."""
    content = written(rows, delimiter=delimiter, quoting=quoting)
    header, _, body = content.partition("\r\n")
    places = [at for at, letter in enumerate(body) if letter == '"']
    if places:
        at = data.draw(st.sampled_from(places))
        assert faults(items(tmp_path / "t", f"{header}\r\n{body[:at]}{body[at + 1 :]}", delimiter=delimiter))


@FEW
@given(ROWS, DELIMITERS, st.data())
def test_csv_whose_delimiter_nobody_quoted(tmp_path: Path, rows: list[Any], delimiter: str, data: Any) -> None:
    """It is a fault: the row has more cells than the header, or fewer."""
    plain = [
        tuple("".join(letter for letter in cell if letter not in '"\r\n,;|\t') for cell in row) for row in rows
    ]
    at = data.draw(st.integers(0, len(plain) - 1))
    plain[at] = (plain[at][0] + delimiter + "x", plain[at][1])
    lines = [("n", "text", "more"), *((str(n), *row) for n, row in enumerate(plain))]
    for cut_lines in (lines, [*lines[:-1], lines[-1][:1]]):
        content = "\n".join(delimiter.join(line) for line in cut_lines)
        assert faults(items(tmp_path / "t", content, delimiter=delimiter))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "id,text\n1,Ada Lovelace lived in London, near Grace\n2,fine\n",
            "t, line 2: 3 cells, but the header has 2",
        ),
        ("id,text\n1,Ada,\n2,fine\n", "t, line 2: 3 cells"),
        ("id,text\n1\n2,fine\n", "t, line 2: 1 cells"),
        ("id,text\n1,x\nid,text\n2,fine\n", "t, line 3: the header occurs again"),
        ('id,text\n1,"two\nlines"\n7,"open\n2,fine\n', "t, line 4: a quote opens a cell here but is never closed"),
        ('id,text\n1,"Ada" said\n2,fine\n', "t, line 2: text after the closing quote"),
        (
            'id,text\n1,"Ada said \\"hello\\" to x"\n2,fine\n',
            't, line 2: the cell that begins here has an escaped quote \\"',
        ),
        ('id,text\n1,Monitor 24"\n2,fine\n', "t, line 2: a quote ends a cell that has no opening quote"),
    ],
)
def test_a_wrong_row_is_named_and_the_next_are_read(tmp_path: Path, content: str, said: str) -> None:
    """With the line where it begins, or where the quote is that swallowed the lines below."""
    read_items = items(tmp_path / "t", content)
    (fault,) = faults(read_items)
    assert fault.startswith(said)
    assert isinstance(read_items[-1], Row)
    assert read_items[-1].text == "fine"


def test_an_open_quote_costs_one_row(tmp_path: Path) -> None:
    """Of 500, the other 499 are read."""
    content = "id,text\n" + "".join(f"{n},{chr(34) if n == 11 else ''}Ada {n}\n" for n in range(500))
    read_items = items(tmp_path / "t", content)
    assert faults(read_items)[0].startswith("t, line 13: a quote opens a cell")
    assert [item.id for item in read_items if isinstance(item, Row)] == [str(n) for n in range(500) if n != 11]


@pytest.mark.parametrize("header", ["id,text,text", "id,id,text"])
def test_a_column_that_is_there_twice_is_told(tmp_path: Path, header: str) -> None:
    """It is ambiguous which column is the text; other columns may share a name."""
    (fault,) = faults(items(tmp_path / "t", f"{header}\n1,2,3\n"))
    assert "2 times" in fault
    assert texts(items(tmp_path / "t", "text,x,x,,\na,b,c,d,e\n")) == ["a"]


def test_a_missing_column_is_named_with_those_there(tmp_path: Path) -> None:
    """The error says how to choose, and lists the choices."""
    (fault,) = faults(items(tmp_path / "t", "title;body\na;b\n"))
    assert fault == "t: no column 'text'; choose one with --text-column (columns: title, body)"


@pytest.mark.parametrize(
    "content", ["sep=;\r\nid;text\r\n1;a,b\r\n", "id;text\n1;a,b\n", '"id";"text"\n"1";"a,b"\n']
)
def test_semicolons_of_spreadsheets_are_seen_and_said(tmp_path: Path, content: str) -> None:
    """By the header, or by the line in which a spreadsheet says so."""
    notes: list[str] = []
    (tmp_path / "t").write_text(content, newline="")
    read_items = list(read_documents(tmp_path / "t", Format.CSV, Reading(), "t", notes.append))
    assert read_items == [Row("1", "a,b")]
    assert notes == ([] if content.startswith("sep") else ["t: read as a table delimited by semicolons"])


def test_cells_are_whole_documents(tmp_path: Path) -> None:
    """Line breaks inside of quotes, cells beyond the csv module's limit, quotes in a cell without them."""
    long = "word " * 60_000
    content = f'id,text\nx,"one\r\ntwo"\n,{long}\n\n3,a "quoted" word\n4,5\' 11" tall\n'
    read_items = items(tmp_path / "t", content)
    assert read_items == [
        Row("x", "one\r\ntwo"),
        Row("2", long),
        Row("3", 'a "quoted" word'),
        Row("4", "5' 11\" tall"),
    ]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('"a\tb"', "a\tb"),
        ('"a\nb"', "a\nb"),
        ('"say ""hi"""', 'say "hi"'),
        ('"quoted"', "quoted"),
        ('"Ada" said', '"Ada" said'),
        ('say "hi"', 'say "hi"'),
        ('24"', '24"'),
        ('"open', '"open'),
        ("one, two", "one, two"),
    ],
)
def test_quotes_in_tsv(tmp_path: Path, cell: str, text: str) -> None:
    """They are characters unless they enclose the whole cell, as spreadsheets write it."""
    assert texts(items(tmp_path / "t", f"id\ttext\n1\t{cell}\n2\tfine\n", Format.TSV)) == [text, "fine"]


def test_a_carriage_return_is_no_row_of_its_own(tmp_path: Path) -> None:
    """In a file with line feeds it is a fault in CSV, and a character of its cell in TSV."""
    assert "a carriage return in a cell without quotes" in faults(items(tmp_path / "t", "text\na\rb\n"))[0]
    assert texts(items(tmp_path / "t", "text\na\rb\n", Format.TSV)) == ["a\rb"]
    assert texts(items(tmp_path / "t", "text\ra\rb\r")) == ["a", "b"]


def test_a_quote_in_tsv_that_may_swallow_rows_is_told(tmp_path: Path) -> None:
    """Both readings are tables: nobody knows which is right, and no row is merged in silence."""
    content = 'id\ttext\n1\t"Ada\n2\tx\n3\tBob"\n4\tfine\n'
    (fault,) = faults(items(tmp_path / "t", content, Format.TSV))
    assert fault.startswith("t, line 2: the quote that opens here may close 2 lines below")
    assert texts(items(tmp_path / "t", content, Format.TSV, quotes=Quotes.LITERAL)) == ['"Ada', "x", 'Bob"', "fine"]


def test_a_file_of_wrong_quotes_ends_soon(tmp_path: Path) -> None:
    """Each has the lines after it read again, but not without end."""
    read_items = faults(items(tmp_path / "t", "id,text\n" + '1,"a""\n' * 20_000))
    assert len(read_items) <= 101
    assert "too many wrong quotes" in read_items[-1]
