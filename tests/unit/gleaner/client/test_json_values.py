"""JSON of the client's requests: values of numeric libraries, and values without a JSON form."""

from __future__ import annotations

import json
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy
import pytest

from gleaner.client.json_values import describe_type, encode_json


def test_values_of_other_libraries_are_converted() -> None:
    """Numbers, arrays and mappings become plain JSON."""
    body = {
        "a": numpy.float32(0.5),
        "b": numpy.array([1, 2]),
        "c": Decimal("0.25"),
        "d": MappingProxyType({"x": 1}),
    }

    assert json.loads(encode_json(body, "the job")) == {"a": 0.5, "b": [1, 2], "c": 0.25, "d": {"x": 1}}


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (object(), TypeError, "/a/0 is of type object"),
        (float("nan"), ValueError, "/a/0 is nan"),
        (numpy.float64("inf"), ValueError, "/a/0 is inf"),
    ],
)
def test_a_value_without_a_json_form_is_named(value: Any, kind: type[Exception], message: str) -> None:
    """The message names the body and the path of the value."""
    with pytest.raises(kind, match=f"the job cannot be written as JSON: {message}"):
        encode_json({"a": [value]}, "the job")


def test_a_value_that_contains_itself_is_refused() -> None:
    """Endless nesting is a clear error."""
    body: dict[str, Any] = {}
    body["a"] = body
    with pytest.raises(ValueError, match="nested too deeply"):
        encode_json(body, "the job")


def test_a_lone_surrogate_is_escaped() -> None:
    """It has no UTF-8; all other text is sent unescaped."""
    assert encode_json({"a": "é"}, "the job") == '{"a":"é"}'.encode()
    assert encode_json({"a": "\ud800"}, "the job") == b'{"a":"\\ud800"}'


@pytest.mark.parametrize(
    ("value", "text"), [(None, "None"), (float("nan"), "nan"), (3, "of type int"), ("secret", "of type str")]
)
def test_a_description_does_not_show_the_value(value: object, text: str) -> None:
    """A value may be a person's text: only missing values are shown."""
    assert describe_type(value) == text
