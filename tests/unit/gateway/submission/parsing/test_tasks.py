"""Labels, relations and classifications of a request, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.settings import GatewaySettings
from gateway.submission.parsing import tasks
from gateway.submission.parsing.tasks import TaskCache, TaskParser, iterate_ends
from gateway.validation import Pointer, ValidationErrors
from jobs.tasks import Classification, RelationType, Tasks

LIMITS = GatewaySettings(
    max_labels=3, max_label_length=10, max_label_description_length=12, max_relations=2, max_classifications=2
)


def read_tasks(max_labels: int = 3, **content: Any) -> tuple[Tasks, list[tuple[str, str]]]:
    """Return the tasks among these fields of a job, and the errors."""
    errors = ValidationErrors()
    return TaskParser(LIMITS, max_labels, errors).read_tasks(content), errors.pop_all()


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ("person", "/labels"),
        ([], "/labels"),
        (["a", "b", "c", "d"], "/labels"),
        (["a", 1], "/labels/1"),
        (["a", "b" * 11], "/labels/1"),
        (["a", "A", "a"], "/labels/2"),
        ({"a": "d" * 13}, "/labels/a"),
        ({"a": 1}, "/labels/a"),
    ],
)
def test_an_error_of_a_label_is_located(value: Any, pointer: str) -> None:
    """The client finds the label by its index or name."""
    assert [where for where, _ in read_tasks(labels=value)[1]] == [pointer]


def test_a_map_of_labels_keeps_its_descriptions() -> None:
    """An empty description is none."""
    parsed, errors = read_tasks(labels={"a": "d" * 12, "b": "", "c": None})
    assert (parsed.labels, errors) == ({"a": "d" * 12, "b": None, "c": None}, [])


def test_a_model_may_take_more_labels_than_the_service_allows_by_default() -> None:
    """The classes of a classification stay bounded by the service."""
    many = [f"l{n}" for n in range(9)]
    parsed, errors = read_tasks(9, labels=many, classifications={"c": many})
    assert len(parsed.labels) == 9
    assert errors == [("/classifications/c", "must have 1 to 3 labels, not 9")]


@pytest.mark.parametrize(
    ("value", "relations"),
    [
        (None, {}),
        ([], {}),
        (["works for"], {"works for": RelationType()}),
        ({"a": None, "b": "likes"}, {"a": RelationType(), "b": RelationType(description="likes")}),
        (
            {"a": {"description": "", "head": ["person"], "tail": ["city", "person"], "threshold": 1}},
            {"a": RelationType(head=("person",), tail=("city", "person"), threshold=1.0)},
        ),
        ({"a": dict.fromkeys(("description", "head", "tail", "threshold"))}, {"a": RelationType()}),
    ],
)
def test_relations_have_a_short_and_a_long_form(value: Any, relations: dict[str, RelationType]) -> None:
    """A list of names, descriptions, or all details; null is as good as absent."""
    assert read_tasks(relations=value) == (Tasks(relations=relations), [])


@pytest.mark.parametrize(
    ("value", "classifications"),
    [
        (None, {}),
        ({}, {}),
        ({"topic": ["a", "b"]}, {"topic": Classification(labels={"a": None, "b": None})}),
        ({"topic": {"labels": {"a": "first"}}}, {"topic": Classification(labels={"a": "first"})}),
        (
            {"topic": {"labels": ["a"], "multi_label": True, "threshold": 0}},
            {"topic": Classification(labels={"a": None}, multi_label=True, threshold=0.0)},
        ),
        (
            {"topic": {"labels": ["a"], "multi_label": None, "threshold": None}},
            {"topic": Classification(labels={"a": None})},
        ),
    ],
)
def test_classifications_have_a_short_and_a_long_form(
    value: Any, classifications: dict[str, Classification]
) -> None:
    """A list of classes, or all details."""
    assert read_tasks(classifications=value) == (Tasks(classifications=classifications), [])


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ("works for", "/relations"),
        (["a", "b", "c"], "/relations"),
        (["a", "a"], "/relations/1"),
        (["a", "a\u200b"], "/relations/1"),
        (["a", ["b"]], "/relations/1"),
        (["a" * 11], "/relations/0"),
        ({"a": "d" * 13}, "/relations/a"),
        ({"a": []}, "/relations/a"),
        ({"a": {"colour": 1}}, "/relations/a/colour"),
        ({"a": {"description": 7}}, "/relations/a/description"),
        ({"a": {"description": "x\ny"}}, "/relations/a/description"),
        ({"a": {"head": "person"}}, "/relations/a/head"),
        ({"a": {"head": []}}, "/relations/a/head"),
        ({"a": {"tail": ["l"] * 4}}, "/relations/a/tail"),
        ({"a": {"tail": ["l", 7]}}, "/relations/a/tail/1"),
        ({"a": {"threshold": True}}, "/relations/a/threshold"),
        ({"a": {"threshold": "0.5"}}, "/relations/a/threshold"),
        ({"a": {"threshold": 1.1}}, "/relations/a/threshold"),
        ({"a": {"threshold": float("inf")}}, "/relations/a/threshold"),
        ({"a": {"threshold": float("nan")}}, "/relations/a/threshold"),
        ({"a": {"threshold": -(10**400)}}, "/relations/a/threshold"),
    ],
)
def test_an_error_of_a_relation_is_located(value: Any, pointer: str) -> None:
    """The client finds the field that is wrong."""
    assert [where for where, _ in read_tasks(relations=value)[1]] == [pointer]


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        (["topic"], "/classifications"),
        ({name: ["x"] for name in "abc"}, "/classifications"),
        ({"a": ["x"], "a ": ["x"]}, "/classifications/a "),
        ({"": ["x"]}, "/classifications/"),
        ({"a": None}, "/classifications/a"),
        ({"a": "x"}, "/classifications/a"),
        ({"a": []}, "/classifications/a"),
        ({"a": ["x", "x"]}, "/classifications/a/1"),
        ({"a": ["x", "y", "z", "w"]}, "/classifications/a"),
        ({"a": {}}, "/classifications/a/labels"),
        ({"a": {"labels": None}}, "/classifications/a/labels"),
        ({"a": {"labels": {}}}, "/classifications/a/labels"),
        ({"a": {"labels": {"x": 7}}}, "/classifications/a/labels/x"),
        ({"a": {"labels": ["x"], "colour": 1}}, "/classifications/a/colour"),
        ({"a": {"labels": ["x"], "multi_label": 1}}, "/classifications/a/multi_label"),
        ({"a": {"labels": ["x"], "threshold": 0.5}}, "/classifications/a/threshold"),
        ({"a": {"labels": ["x"], "multi_label": True, "threshold": 2}}, "/classifications/a/threshold"),
    ],
)
def test_an_error_of_a_classification_is_located(value: Any, pointer: str) -> None:
    """A threshold of a single label would have no effect, so it is an error."""
    assert [where for where, _ in read_tasks(classifications=value)[1]] == [pointer]


def test_tasks_that_are_repeated_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only without errors, and only as long as they need little memory."""
    monkeypatch.setattr(tasks, "_MAX_CACHED_CHARACTERS", 30)
    errors = ValidationErrors()
    parser, cache = TaskParser(LIMITS, 3, errors), TaskCache()

    def read(value: Any, at: Pointer = ("labels",)) -> Any:
        return cache.read(parser.read_labels, value, at, errors)

    assert read(["a", "b"]) is read(["a", "b"])
    assert read({"a": "1"}) is read({"a": "1"})
    assert read({"a": "1"}) != read({"a": "2"})
    assert cache.read(parser.read_relations, ["a", "b"], (), errors) == {"a": RelationType(), "b": RelationType()}
    assert read(["other"]) is not read(["other"])
    for index in range(2):
        read([1], ("documents", index, "labels"))
    assert [where for where, _ in errors.pop_all()] == ["/documents/0/labels/0", "/documents/1/labels/0"]


def test_the_labels_at_both_ends_are_listed_with_their_paths() -> None:
    """Relations that take any entity name none."""
    relations = {"any": RelationType(), "a": RelationType(head=("x", "y"), tail=("z",))}
    assert list(iterate_ends(relations)) == [
        (("a", "head", 0), "x"), (("a", "head", 1), "y"), (("a", "tail", 0), "z"),
    ]  # fmt: skip
