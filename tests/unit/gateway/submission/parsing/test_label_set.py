"""Bodies that store a label set."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.settings import GatewaySettings
from gateway.submission.parsing.label_set import parse_label_set

SETTINGS = GatewaySettings(auth="off")
MANY = [f"label {number}" for number in range(SETTINGS.max_model_labels)]


@pytest.mark.parametrize(
    ("labels", "parsed"),
    [
        (["a", "b"], {"a": None, "b": None}),
        ({"b": "a letter", "a": None, "c": ""}, {"b": "a letter", "a": None, "c": None}),
        (
            [f"label {number}" for number in range(SETTINGS.max_model_labels)],
            {f"label {number}": None for number in range(SETTINGS.max_model_labels)},
        ),
    ],
)
def test_labels_come_as_a_list_or_with_descriptions(labels: object, parsed: dict[str, str | None]) -> None:
    """In order; as many as the largest models take."""
    parsed_labels = parse_label_set(json.dumps({"labels": labels}).encode(), SETTINGS)
    assert list(parsed_labels.items()) == list(parsed.items())


@pytest.mark.parametrize(
    ("content", "at"),
    [
        ({}, "/labels"),
        ({"labels": []}, "/labels"),
        ({"labels": ["a", "a"]}, "/labels/1"),
        ({"labels": {"a": 7}}, "/labels/a"),
        ({"labels": [f"label {number}" for number in range(SETTINGS.max_model_labels + 1)]}, "/labels"),
        ({"labels": ["a"], "name": "b"}, "/name"),
        ({"labels": [[]] * 60_000}, ""),
    ],
)
def test_labels_are_stored_by_the_rules_of_a_job(content: dict[str, Any], at: str) -> None:
    """With the same pointers; more values than any set can have are not built."""
    with pytest.raises(GatewayError) as refused_:
        parse_label_set(json.dumps(content).encode(), SETTINGS)
    assert [where for where, _ in refused_.value.violations] == [at]
