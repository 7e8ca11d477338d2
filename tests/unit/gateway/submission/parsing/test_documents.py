"""Documents of a request: their ids, labels and options, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import GatewaySettings
from gateway.submission.parsing.documents import (
    DocumentReader,
    check_named_labels,
    read_options,
    text_error,
)
from gateway.submission.parsing.tasks import NOT_A_LABEL, TaskParser
from gateway.validation import ValidationErrors
from jobs.schema import Document, DocumentErrorCode, Options
from jobs.tasks import RelationType, Tasks

LIMITS = GatewaySettings(
    max_document_bytes=20,
    max_document_id_length=8,
    max_labels=3,
    max_label_length=10,
    max_label_description_length=12,
)
Faults = list[tuple[str, str]]


def make_parser(errors: ValidationErrors) -> TaskParser:
    """Return a parser of tasks that collects errors here."""
    return TaskParser(LIMITS, LIMITS.max_labels, errors)


def read_documents(
    items: list[Any], *, labels: list[str] | None = None, options: Options | None = None
) -> tuple[list[Document], Faults]:
    """Return the documents of a job with these labels, and the errors."""
    errors = ValidationErrors()
    reader = DocumentReader(make_parser(errors), Tasks(dict.fromkeys(labels or ())), options or Options())
    documents = list(reader.read_documents(items, need_labels=not labels))
    return documents, errors.pop_all()


@pytest.mark.parametrize(
    ("ids", "faults"),
    [
        (["a", "b", None], []),
        (["a", "b", "a"], [("/documents/2/id", "is also the id of document 0")]),
        (["1", None], [("/documents/0/id", "is also the id of document 1")]),
        ([None, "0"], [("/documents/1/id", "is also the id of document 0")]),
    ],
)
def test_two_documents_never_share_an_id(ids: list[str | None], faults: Faults) -> None:
    """The id that the client wrote is the wrong one, wherever it meets another document's index."""
    _, reported = read_documents([{"id": name, "text": "x"} for name in ids], labels=["person"])
    assert reported == faults


def test_documents_after_an_error_are_only_checked() -> None:
    """A request that will be refused yields nothing more, but all its errors."""
    documents, faults = read_documents(
        [{"text": "x"}, {"text": 1}, {"text": "y"}, {"text": "z", "more": 1}, "w"], labels=["person"]
    )
    assert [document.text for document in documents] == ["x"]
    assert [pointer for pointer, _ in faults] == ["/documents/1/text", "/documents/3/more", "/documents/4"]


def test_missing_labels_are_reported_once() -> None:
    """The first document without labels is named, and not the thousand after it."""
    _, faults = read_documents([{"text": "x", "labels": ["a"]}, {"text": "y"}, {"text": "z"}])
    assert faults == [("/labels", "is required, because document 1 has no labels")]


def test_a_list_of_labels_with_an_error_is_reported_every_time() -> None:
    """Only a list without errors is remembered."""
    wrong = {"text": "x", "labels": ["a", "a"]}
    _, faults = read_documents([wrong, wrong])
    assert [pointer for pointer, _ in faults] == ["/documents/0/labels/1", "/documents/1/labels/1"]


def test_a_label_that_no_document_has_stays_unclaimed() -> None:
    """The job's options may name the labels of its documents, once one of them has it."""
    errors = ValidationErrors()
    options = Options(threshold={"job": 0.1, "document": 0.2, "nowhere": 0.3})
    relations = {"knows": RelationType(head=("job", "document"), tail=("nowhere",))}
    reader = DocumentReader(make_parser(errors), Tasks({"job": None}, relations), options)
    nowhere = [("options", "threshold", "nowhere"), ("relations", "knows", "tail", 0)]
    document = [("options", "threshold", "document"), ("relations", "knows", "head", 1)]
    assert sorted(reader.unclaimed_pointers()) == sorted(document + nowhere)
    list(reader.read_documents([{"text": "x", "labels": ["document"]}], need_labels=False))
    assert reader.unclaimed_pointers() == nowhere


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", DocumentErrorCode.EMPTY_TEXT),
        (" \n\u2003", DocumentErrorCode.EMPTY_TEXT),
        ("x" * 21, DocumentErrorCode.DOCUMENT_TOO_LARGE),
        ("\u00e9" * 11, DocumentErrorCode.DOCUMENT_TOO_LARGE),
        ("a\ud800", DocumentErrorCode.INVALID_TEXT),
        ("x" * 20, None),
        ("\u00e9" * 10, None),
    ],
)
def test_a_text_is_measured_in_bytes(text: str, code: DocumentErrorCode | None) -> None:
    """The limit holds for UTF-8, to the byte."""
    error = text_error(text, 20)
    assert (error.code if error else None) == code


@given(st.text(), st.integers(1, 60))
def test_a_text_fails_exactly_if_it_is_blank_or_too_large(text: str, max_bytes: int) -> None:
    """Nothing else about a text of whole characters is an error."""
    assert (text_error(text, max_bytes) is None) == (bool(text.strip()) and len(text.encode()) <= max_bytes)


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ([], "/options"),
        ({"threshold": dict.fromkeys(map(str, range(31)), 0.5)}, "/options/threshold"),
        ({"redact": {"labels": ["a"] * 31}}, "/options/redact/labels"),
        ({"threshold": "0.5"}, "/options/threshold"),
        ({"redact": {"mode": "hash"}}, "/options/redact/mode"),
    ],
)
def test_wrong_options_are_located_and_not_used(value: Any, pointer: str) -> None:
    """A number in a string is no number, and tokens need the service's key."""
    errors = ValidationErrors()
    assert read_options(value, ("options",), make_parser(errors)) is None
    assert pointer in [where for where, _ in errors.pop_all()]


def test_each_label_that_is_none_is_named() -> None:
    """Thresholds and redactions are both checked."""
    errors = ValidationErrors()
    options = Options.model_validate({"threshold": {"a": 0.5, "x": 0.5}, "redact": {"labels": ["a", "y"]}})
    check_named_labels(options, {"a": None}, ("options",), errors)
    assert errors.pop_all() == [("/options/threshold/x", NOT_A_LABEL), ("/options/redact/labels/1", NOT_A_LABEL)]
