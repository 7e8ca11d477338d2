"""Arguments that look like lists of texts and are none, and values that have no JSON form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy
import pandas
import polars
import pyarrow
import pytest

from gleaner import AsyncClient, Client
from gleaner.client.arguments import hold_documents, hold_labels, hold_options
from gleaner.client.json_values import encode_json

NOWHERE = "http://127.0.0.1:9"
FRAME = {"id": ["a"], "text": ["Ada Lovelace lived in London."]}


def call_sync(documents: Any) -> Iterator[Callable[[], Any]]:
    """Every method of Client that takes documents."""
    with Client(NOWHERE, retries=0) as client:
        yield lambda: client.submit(documents, ["person"])
        yield lambda: client.extract(documents, ["person"])
        yield lambda: list(client.map(documents, ["person"]))


def call_async(documents: Any) -> Iterator[Callable[[], Any]]:
    """Every method of AsyncClient that takes documents."""

    async def submit() -> None:
        async with AsyncClient(NOWHERE, retries=0) as client:
            await client.submit(documents, ["person"])

    async def extract() -> None:
        async with AsyncClient(NOWHERE, retries=0) as client:
            await client.extract(documents, ["person"])

    async def read_map() -> None:
        async with AsyncClient(NOWHERE, retries=0) as client:
            async for _ in client.map(documents, ["person"]):
                pass

    for method in (submit, extract, read_map):
        yield lambda method=method: asyncio.run(method())  # type: ignore[misc]


@pytest.mark.parametrize("calls", [call_sync, call_async])
@pytest.mark.parametrize(
    ("documents", "hint"),
    [
        ("Ada Lovelace", "one string"),
        (b"Ada Lovelace", "one bytes"),
        ({"id": "a", "text": "Ada"}, "mapping"),
        ({"Ada", "Grace"}, "no order"),
        (pandas.DataFrame(FRAME), "gleaner.dataframes"),
        (polars.DataFrame(FRAME), "gleaner.dataframes"),
        (pyarrow.table(FRAME), "gleaner.dataframes"),
        (numpy.array([["Ada"]]), "2 dimensions"),
        (["Ada", None], "document 1 is None"),
        ([float("nan")], "document 0 is nan"),
        (["Ada", "Grace", 7], "document 2 is of type int"),
        ([b"Ada"], "document 0 is of type bytes"),
        ([{"text": 0.5}], "document 0: 'text' is of type float"),
    ],
)
def test_what_is_no_list_of_documents_is_refused(calls: Any, documents: Any, hint: str) -> None:
    """Nothing is sent about column names, keys or letters; the message says which document is wrong."""
    for call in calls(documents):
        with pytest.raises(TypeError, match=hint):
            call()


def test_columns_and_generators_of_texts_are_documents() -> None:
    """A column of a frame, an array, a tuple, a view of values: whatever has texts in an order."""
    for documents in (
        pandas.Series(["Ada"]),
        polars.Series(["Ada"]),
        numpy.array(["Ada"]),
        ("Ada",),
        {"a": "Ada"}.values(),
        (text for text in ["Ada"]),
    ):
        assert list(hold_documents(documents)) == ["Ada"]  # type: ignore[arg-type]
    assert hold_documents([{"id": "a", "text": None}, {}]) == [{"id": "a", "text": None}, {}]


@pytest.mark.parametrize("labels", ["person", b"person", ["person", None], [7], pandas.DataFrame(FRAME)])
def test_labels_are_strings_in_a_list(labels: Any) -> None:
    """A single string is not a list, and every label is a string."""
    with pytest.raises(TypeError, match="label"):
        hold_labels(labels)


def test_labels_of_a_generator_are_read_once() -> None:
    """A generator would be empty for the second job of a map."""
    assert hold_labels(label for label in ["person", "city"]) == ["person", "city"]  # type: ignore[arg-type]
    assert hold_labels(None) is None


def test_numbers_of_numpy_and_decimal_are_numbers() -> None:
    """A threshold or a set of labels often comes from an array."""
    body = {"a": numpy.float64(0.5), "b": numpy.int64(3), "c": numpy.array(["x"]), "d": Decimal("0.25")}
    assert encode_json(body, "it") == b'{"a":0.5,"b":3,"c":["x"],"d":0.25}'
    assert encode_json({"a": numpy.float32(0.5)}, "it") == b'{"a":0.5}'


@pytest.mark.parametrize(
    ("value", "error", "location"),
    [
        (float("nan"), ValueError, "/options/threshold is nan"),
        (numpy.float32("inf"), ValueError, "/options/threshold is inf"),
        (object(), TypeError, "/options/threshold is of type object"),
        ({"person"}, TypeError, "/options/threshold is of type set"),
    ],
)
def test_a_value_without_json_is_named(value: Any, error: type[Exception], location: str) -> None:
    """The message gives its place in the request."""
    with pytest.raises(error, match=location):
        encode_json({"options": {"threshold": value}}, "the request")


def test_a_source_of_map_is_checked_as_it_is_read() -> None:
    """Also an asynchronous one; the number is that of the document in the whole."""

    async def source() -> AsyncIterator[Any]:
        yield "Ada"
        yield None

    async def run() -> None:
        async with AsyncClient(NOWHERE, retries=0) as client:
            async for _ in client.map(source(), ["person"]):
                pass

    with pytest.raises(TypeError, match="document 1 is None"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relations": "works for"}, "relations is one string; pass a list of relations"),
        ({"relations": [None]}, "relation 0 is None"),
        ({"classifications": ["topic"]}, "classifications is of type list; pass a mapping"),
        ({"classifications": {"topic": "sport"}}, r"classifications\['topic'\] is one string"),
        ({"classifications": {"topic": 7}}, r"classifications\['topic'\] is a int"),
        ({"classifications": {7: ["sport"]}}, "the name of a classification is of type int"),
    ],
)
def test_relations_and_classifications_are_collections(options: Any, message: str) -> None:
    """A single string, which Python can iterate over, is refused before anything is sent."""
    with pytest.raises(TypeError, match=message):
        hold_options(options)


def test_options_can_be_sent_twice() -> None:
    """A generator would be empty for the second job of a map; the caller's options stay as they are."""
    options: Any = {"relations": (name for name in ["met"]), "classifications": {"topic": iter(["sport"])}}
    checked = hold_options(options)
    assert checked == {"relations": ["met"], "classifications": {"topic": ["sport"]}}
    assert options["relations"] is not checked["relations"]
    detailed: Any = {"relations": {"met": {"head": ["person"]}}, "classifications": {"mood": {"labels": ["angry"]}}}
    assert hold_options(detailed) == detailed
