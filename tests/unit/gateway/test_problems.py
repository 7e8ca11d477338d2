from __future__ import annotations

import json
from typing import get_args

import pytest

from gateway.problems import MEDIA_TYPE, REGISTRY, Problem, ProblemCode, json_pointer


def test_every_code_is_registered_once() -> None:
    """The type that the code checks and the registry that the docs show are the same list."""
    assert list(REGISTRY) == list(get_args(ProblemCode))


@pytest.mark.parametrize("code", list(REGISTRY))
def test_a_problem_has_the_shape_of_rfc_9457(code: ProblemCode) -> None:
    """Type, title, status, detail, and our code and request id."""
    response = Problem(code, "what is wrong", [("/a", "b")], {"Retry-After": "3"}).to_response("req-1")

    body = json.loads(bytes(response.body))
    assert response.media_type == MEDIA_TYPE
    assert response.status_code == body["status"] == REGISTRY[code].status
    assert response.headers["retry-after"] == "3"
    assert body == {
        "type": f"/problems/{code}",
        "title": REGISTRY[code].title,
        "status": REGISTRY[code].status,
        "detail": "what is wrong",
        "code": code,
        "request_id": "req-1",
        "errors": [{"pointer": "/a", "detail": "b"}],
    }


def test_errors_are_absent_where_there_are_none() -> None:
    """An empty list says nothing."""
    assert "errors" not in Problem("forbidden", "no").to_dict("id")


def test_a_problem_is_always_text() -> None:
    """A lone surrogate in a name that the problem quotes does not break the answer."""
    response = Problem("validation_failed", "x\ud800", [(json_pointer("\ud800"), "y\udc00")]).to_response("id")

    assert json.loads(bytes(response.body))["errors"] == [{"pointer": "/?", "detail": "y?"}]


def test_pointers_escape_and_stay_short() -> None:
    """RFC 6901's two escapes; a name of a megabyte is truncated."""
    assert json_pointer("documents", 3, "a/b~c") == "/documents/3/a~1b~0c"
    assert len(json_pointer("x" * 1_000_000)) < 200


def test_the_message_of_the_exception_is_its_code() -> None:
    """A traceback quotes nothing of the request."""
    assert str(Problem("validation_failed", "secret detail", [("/secret", "x")])) == "validation_failed"
