from __future__ import annotations

import json
from typing import get_args

import pytest
from starlette.exceptions import HTTPException

from gateway.errors import ErrorCode, GatewayError, UnsupportedEncodingError
from gateway.http.problems import EXPECTED_ERRORS, MEDIA_TYPE, REGISTRY, Problem, to_problem
from gateway.validation import json_pointer
from jobs.codec import CodecError
from jobs.ledger import LedgerUnavailableError


def test_every_code_is_registered_once() -> None:
    """The type that the code checks and the registry that the docs show are the same list."""
    assert list(REGISTRY) == list(get_args(ErrorCode))


@pytest.mark.parametrize("code", list(REGISTRY))
def test_a_problem_has_the_shape_of_rfc_9457(code: ErrorCode) -> None:
    """Type, title, status, detail, and our code and request id."""
    error = GatewayError(code, "what is wrong", [("/a", "b")], retry_after_s=2.1)
    response = to_problem(error).to_response("req-1")

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


def test_a_code_brings_its_headers() -> None:
    """A 401 names the scheme (RFC 9110); after a 408 the connection is closed; no Retry-After that nobody set."""
    unauthenticated = to_problem(GatewayError("unauthenticated", "no key")).to_response("id")
    too_slow = to_problem(GatewayError("request_timeout", "too slow")).to_response("id")

    assert unauthenticated.headers["www-authenticate"] == 'Bearer realm="gleaner"'
    assert too_slow.headers["connection"] == "close"
    assert "retry-after" not in too_slow.headers


def test_nobody_is_told_to_come_back_at_once() -> None:
    """Retry-After is in whole seconds, rounded up, at least one."""
    assert to_problem(GatewayError("rate_limited", "", retry_after_s=0)).headers == {"Retry-After": "1"}


def test_only_an_unsupported_encoding_lists_the_supported_ones() -> None:
    """RFC 9110: a 415 for another reason must not have Accept-Encoding."""
    assert to_problem(UnsupportedEncodingError(("gzip", "zstd"))).headers == {"Accept-Encoding": "gzip, zstd"}
    assert to_problem(GatewayError("unsupported_media_type", "no")).headers == {}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GatewayError("forbidden", "no"), "forbidden"),
        (LedgerUnavailableError("timeout"), "storage_unavailable"),
        (CodecError("no key"), "internal_error"),
        (HTTPException(404), "not_found"),
        (HTTPException(405, headers={"Allow": "GET"}), "method_not_allowed"),
        (HTTPException(418), "internal_error"),
    ],
)
def test_expected_errors_become_problems(error: Exception, code: str) -> None:
    """Nothing of an exception's own text reaches the client, except the detail of a `GatewayError`."""
    assert isinstance(error, EXPECTED_ERRORS)
    problem = to_problem(error)

    assert problem.code == code
    assert str(error) == code or str(error) not in problem.detail
    assert dict(problem.headers).get("Allow") == (getattr(error, "headers", None) or {}).get("Allow")


def test_other_errors_are_no_problem() -> None:
    """A bug is raised again, for the middleware that logs it."""
    with pytest.raises(KeyError):
        to_problem(KeyError("x"))
