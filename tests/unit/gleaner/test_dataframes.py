"""Frames of three libraries in, frames of the same library out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import datasets
import pandas
import polars
import pytest

from gleaner import Client, dataframes
from gleaner.models import ClassScore, Entity, Relation, Result
from tests.support.fakes.scripted_http import Answer, ReceivedRequest, ScriptedServer

TEXTS = ["Ada met Bob", None, "nobody", "Cid"]
NAMES = ["a", "b", "c", "d"]
TIDY = [("a", 0, 3, "Ada", "x", 0.5), ("a", 8, 11, "Bob", "x", 0.5), ("d", 0, 3, "Cid", "x", 0.5)]


def entities(text: str) -> list[dict[str, Any]]:
    """Every capitalised word of three letters."""
    words = [word for word in text.split() if word.istitle() and len(word) == 3]
    matches = ((text.index(word), word) for word in words)
    return [{"start": at, "end": at + 3, "text": word, "label": "x", "score": 0.5} for at, word in matches]


@pytest.fixture
def client() -> Iterator[Client]:
    """Yield a client whose gateway finishes every job at once."""
    jobs: list[list[str]] = []

    def answer(request: ReceivedRequest) -> Answer:
        if request.method == "POST":
            jobs.append([document["text"] for document in request.json()["documents"]])
            return Answer(202, {"id": f"job_{len(jobs) - 1}", "status": "running"})
        results = [
            {"index": at, "id": str(at), "status": "succeeded", "entities": entities(text)}
            if text
            else {
                "index": at,
                "id": str(at),
                "status": "failed",
                "error": {"code": "empty_text", "detail": "empty"},
            }
            for at, text in enumerate(jobs[int(request.path.split("/")[3][4:])])
        ]
        return Answer(body={"data": results, "next_cursor": None, "complete": True})

    with ScriptedServer(behaviour=answer).running() as server, Client(server.url) as client:
        yield client


def make_frame(library: str, texts: list[Any]) -> Any:
    """Return a frame with ids and texts."""
    columns = {"ticket": NAMES[: len(texts)], "body": texts}
    if library == "pandas":
        return pandas.DataFrame(columns, index=range(7, 7 + len(texts)))
    if library == "polars":
        return polars.DataFrame(columns, schema={"ticket": polars.String, "body": polars.String})
    return datasets.Dataset.from_dict(columns)


def rows(data: Any) -> list[tuple[Any, ...]]:
    """Everything in a frame."""
    if isinstance(data, pandas.DataFrame):
        return list(data.itertuples(index=False, name=None))
    if isinstance(data, polars.DataFrame):
        return data.rows()
    return [tuple(row.values()) for row in data]


every_library = pytest.mark.parametrize("library", ["pandas", "polars", "datasets"])


@every_library
def test_extract_is_one_row_an_entity(client: Client, library: dataframes.Library) -> None:
    """A tidy frame of the caller's library, in order, with the caller's ids; failures cause a warning."""
    data = make_frame(library, TEXTS)
    with pytest.warns(UserWarning, match=r"1 of 4 documents failed \(1 x empty_text\)"):
        frame = dataframes.extract(client, data, labels=["x"], text="body", id="ticket")

    assert type(frame) is type(data)
    assert rows(frame) == TIDY


@every_library
def test_without_an_id_rows_are_numbered(client: Client, library: dataframes.Library) -> None:
    """`row` is the row's number from 0, whatever index the frame has."""
    frame = dataframes.extract(client, make_frame(library, ["x", "Ada"]), labels=["x"], text="body")
    assert rows(frame) == [(1, 0, 3, "Ada", "x", 0.5)]


@every_library
def test_nothing_found_has_its_columns_all_the_same(client: Client, library: dataframes.Library) -> None:
    """A frame without rows still has columns to work with, of the right types."""
    frame = dataframes.extract(client, make_frame(library, ["x"]), labels=["x"], text="body")
    assert rows(frame) == []
    if isinstance(frame, pandas.DataFrame):
        assert str(frame["score"].dtype) == "float64"
    if isinstance(frame, polars.DataFrame):
        assert frame.schema["start"] == polars.Int64


@every_library
def test_annotate_adds_two_columns(client: Client, library: dataframes.Library) -> None:
    """Each row keeps its place and gets its entities, or its error's code; the caller's frame stays as it is."""
    data = make_frame(library, TEXTS)
    frame = dataframes.annotate(client, data, labels=["x"], text="body")

    *_, lists, errors = zip(*rows(frame), strict=True)
    assert [[entity["text"] for entity in cells] for cells in lists] == [["Ada", "Bob"], [], [], ["Cid"]]
    assert list(errors) == [None, "empty_text", None, None]
    assert len(rows(data)[0]) == 2
    if isinstance(frame, pandas.DataFrame):
        assert list(frame.index) == [7, 8, 9, 10]


@every_library
def test_results_that_are_there_become_a_frame(library: dataframes.Library) -> None:
    """Without asking anybody."""
    result = Result(0, "a", "succeeded", (Entity(0, 3, "Ada", "x", 0.5),))
    assert rows(dataframes.entities([result], library)) == [TIDY[0]]


def test_missing_values_are_empty_texts(client: Client) -> None:
    """None, NaN and NA fail alone; a number is an error that names its row."""
    holes = pandas.DataFrame({"text": [None, float("nan"), pandas.NA, "Ada"]}, dtype=object)
    frame = dataframes.annotate(client, holes, labels=["x"])
    assert frame["entities_error"].tolist() == ["empty_text"] * 3 + [None]
    with pytest.raises(TypeError, match="row 0: 'text' is not text but int"):
        dataframes.extract(client, pandas.DataFrame({"text": [5]}), labels=["x"])


def test_what_is_no_frame_is_told() -> None:
    """A list, a lazy frame, a column that is not there."""
    with Client("http://127.0.0.1:9") as client:
        with pytest.raises(TypeError, match="list is not a frame"):
            dataframes.extract(client, ["Ada"], labels=["x"])
        with pytest.raises(TypeError, match="collect"):
            dataframes.extract(client, polars.LazyFrame({"text": ["Ada"]}), labels=["x"])
        with pytest.raises(TypeError, match="no column 'text'; the columns are: body"):
            dataframes.extract(client, pandas.DataFrame({"body": []}), labels=["x"])
        with pytest.raises(TypeError, match="rename it"):
            dataframes.extract(client, pandas.DataFrame({"text": [], "label": []}), labels=["x"], id="label")


def test_a_library_that_is_not_there_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to install the library."""
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(dataframes.MissingExtraError, match=r"gleaner-ner\[frame\]"):
        dataframes.entities([], "polars")


def test_what_is_no_text_is_told_before_anything_is_submitted(client: Client) -> None:
    """However far down it is: a number, or one of two columns with the same name."""
    data = pandas.DataFrame({"body": ["Ada"] * 5000 + [5]})
    with pytest.raises(TypeError, match="row 5000: 'body' is not text but int"):
        dataframes.extract(client, data, text="body", labels=["x"])
    twice = pandas.DataFrame([["Ada", "Bob"]], columns=["body", "body"])
    with pytest.raises(TypeError, match="2 columns are called 'body'"):
        dataframes.annotate(client, twice, text="body", labels=["x"])


def test_every_kind_of_missing_text_fails_alone(client: Client) -> None:
    """None, NaN, NA and NaT alike."""
    data = pandas.DataFrame(
        {"body": pandas.Series(["Ada", None, float("nan"), pandas.NA, pandas.NaT], dtype=object)}
    )
    frame = dataframes.annotate(client, data, text="body", labels=["x"])
    assert frame["entities_error"].tolist() == [None, *["empty_text"] * 4]


@pytest.mark.parametrize("library", ["pandas", "polars", "datasets"])
def test_relations_and_classes_are_frames(library: dataframes.Library) -> None:
    """A row is a relation or a class; a result without any has no row."""
    people = (Entity(0, 3, "Ada", "x", 0.5), Entity(8, 11, "Bob", "x", 0.5))
    answers = Result(
        *(0, "a", "succeeded", people),
        relations=(Relation("met", 1, 0, 0.75),),
        classifications={"topic": (ClassScore("sport", 0.75), ClassScore("war", 0.25))},
    )
    relations = dataframes.relations([answers], library)
    assert rows(relations) == [("a", "met", 0.75, 1, 8, 11, "Bob", "x", 0, 0, 3, "Ada", "x")]
    classes = dataframes.classifications([answers], library)
    assert rows(classes) == [("a", "topic", "sport", 0.75), ("a", "topic", "war", 0.25)]
    assert rows(dataframes.relations([Result(1, "b", "succeeded")], library)) == []
