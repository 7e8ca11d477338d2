"""Relations, classifications and their thresholds from options and schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.task_options import TaskOptions, read_schema


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"relation": ["works for", "met"]}, {"relations": ["works for", "met"]}),
        (
            {"relation": ["person -> works for -> company, city", "-> in ->city", "x->y->"]},
            {
                "relations": {
                    "works for": {"head": ["person"], "tail": ["company", "city"]},
                    "in": {"tail": ["city"]},
                    "y": {"head": ["x"]},
                }
            },
        ),
        (
            {"relation": ["met", "a=b"], "relation_threshold": ["0.3", "a=b=0.6"]},
            {"relations": {"met": None, "a=b": {"threshold": 0.6}}, "relation_threshold": 0.3},
        ),
        ({"classify": ["topic=sport, politics"]}, {"classifications": {"topic": ["sport", "politics"]}}),
        (
            {"classify_multi": ["mood=sad"], "class_aggregation": "max"},
            {"classifications": {"mood": {"labels": ["sad"], "multi_label": True}}, "class_aggregation": "max"},
        ),
    ],
)
def test_options_become_tasks(options: dict[str, Any], expected: dict[str, Any]) -> None:
    """An end of a relation that is empty may have any label."""
    assert read_schema(["person"], TaskOptions(**options)) == (["person"], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relation": ["a -> b"]}, "write 'works for'"),
        ({"relation": ["a -> -> b"]}, "write 'works for'"),
        ({"relation": [" "]}, "write 'works for'"),
        ({"relation": ["met", "a -> met -> b"]}, "--relation: 'met' occurs twice"),
        ({"relation": ["met"], "relation_threshold": ["wed=0.3"]}, "not looked for: wed; add --relation"),
        ({"relation_threshold": ["2"]}, "--relation-threshold 2: not a score from 0 to 1"),
        ({"classify": ["topic"]}, "--classify 'topic': write topic=sport,politics"),
        ({"classify": ["topic="]}, "write topic="),
        ({"classify_multi": ["topic=a,a"]}, "a class occurs twice"),
        ({"classify": ["topic=a"], "classify_multi": ["topic=b"]}, "--classify-multi: 'topic' occurs twice"),
    ],
)
def test_options_that_are_no_tasks_are_refused(options: dict[str, Any], message: str) -> None:
    """The message says how to write them."""
    with pytest.raises(CommandError, match=message):
        read_schema(None, TaskOptions(**options))


JSON = """{"labels": {"person": null, "company": "a firm"}, "relations": ["met"],
           "classifications": {"topic": ["sport"]}}"""
TOML = """
labels = ["person"]
[relations]
met = "came together with"
[classifications.mood]
labels = ["sad"]
multi_label = true
"""


def test_a_schema_is_json_or_toml_and_options_add_to_it(tmp_path: Path) -> None:
    """Labels of -l come first, and keep a description of the file."""
    (tmp_path / "a.json").write_text(JSON)
    (tmp_path / "a.toml").write_text(TOML)

    options = TaskOptions(schema=tmp_path / "a.json", relation=["wed"], classify=["tone=loud"])
    assert read_schema(["city", "company"], options) == (
        {"city": None, "company": "a firm", "person": None},
        {"relations": ["met", "wed"], "classifications": {"topic": ["sport"], "tone": ["loud"]}},
    )
    options = TaskOptions(schema=tmp_path / "a.toml", relation_threshold=["met=0.7"])
    assert read_schema(None, options) == (
        ["person"],
        {
            "relations": {"met": {"description": "came together with", "threshold": 0.7}},
            "classifications": {"mood": {"labels": ["sad"], "multi_label": True}},
        },
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "write a schema"),
        ("a.toml", "a", "write a schema"),
        ("a.json", "[]", "not an object with some of labels, relations, classifications alone"),
        ("a.json", '{"label": ["a"]}', "not an object with some of"),
        ("a.json", '{"labels": "a"}', "labels is one string"),
        ("a.json", '{"relations": {"a": null, "a": "b"}}', "'a' occurs twice"),
        ("a.json", '{"relations": ["a", "a"]}', "'a' occurs twice"),
        ("a.json", '{"classifications": ["a"]}', "classifications is of type list"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("none.json", None, "No such file"),
    ],
)
def test_a_file_that_is_no_schema_is_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    """With its name."""
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(CommandError, match=f"{name}.*{message}"):
        read_schema(None, TaskOptions(schema=tmp_path / name))
