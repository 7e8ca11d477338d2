"""Every error response: one registry of codes, one conversion of exceptions, one format (RFC 9457 problem+json).

Code below raises `GatewayError` with a code; only this file maps codes to statuses and headers.
docs/reference/errors.md is generated from `REGISTRY`.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.errors import ErrorCode, GatewayError, UnsupportedEncodingError
from jobs.codec import CodecError
from jobs.ledger import LedgerUnavailableError
from jobs.lines import escape_line_breaks

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """The meaning of an error code, and a remedy for the reader.

    Attributes:
        headers: sent with every response of this code.
    """

    status: int
    title: str
    meaning: str
    remedy: str
    headers: Mapping[str, str] = field(default_factory=dict)


REGISTRY: Mapping[str, ProblemType] = {
    "malformed_json": ProblemType(
        400,
        "Malformed JSON",
        "The request body is not JSON in UTF-8, or an object has a duplicate key.",
        "Send JSON as written by a JSON library; NaN and Infinity are not JSON.",
    ),
    "bad_content_encoding": ProblemType(
        400,
        "Invalid compressed body",
        "The request body could not be decoded as declared in Content-Encoding, or is truncated.",
        "Compress the whole body as gzip or zstd, or send it uncompressed.",
    ),
    "bad_cursor": ProblemType(
        400,
        "Invalid cursor",
        "The cursor was not issued by this API.",
        "Pass the previous page's `next_cursor` unchanged, or omit it to start over.",
    ),
    "unauthenticated": ProblemType(
        401,
        "Missing or unknown API key",
        "The request carries no API key, or one that is unknown, expired or revoked.",
        "Send `Authorization: Bearer gl_…` or `X-API-Key: gl_…`; `gleaner keys create` makes a key.",
        {"WWW-Authenticate": 'Bearer realm="gleaner"'},
    ),
    "forbidden": ProblemType(
        403,
        "Insufficient role",
        "The API key is valid, but its role does not permit this.",
        "Use a key with the role named in the detail.",
    ),
    "csrf_refused": ProblemType(
        403,
        "CSRF check failed",
        "The request is authenticated by a cookie alone and may have been triggered by another site.",
        "Send `X-Gleaner-CSRF: 1` with every request that changes data, from the service's own origin.",
    ),
    "https_required": ProblemType(
        403,
        "HTTPS required",
        "The request came over plain HTTP, which this service does not accept.",
        "Use https; rotate a key that was sent over plain HTTP.",
    ),
    "not_found": ProblemType(
        404,
        "No such resource",
        "Nothing is served at this path.",
        "See /openapi.json for the available paths.",
    ),
    "job_not_found": ProblemType(
        404,
        "No such job",
        "Your tenant has no job with this id.",
        "Check the id, and that the key belongs to the tenant that submitted the job.",
    ),
    "document_not_found": ProblemType(
        404,
        "No such document",
        "The job has no document with this id.",
        "Use the submitted id, or the document's index if it had none.",
    ),
    "endpoint_not_found": ProblemType(
        404,
        "No such webhook endpoint",
        "Your tenant has no webhook endpoint with this id.",
        "GET /v1/webhook-endpoints lists your endpoints; an inline endpoint is removed a week after its job.",
    ),
    "delivery_not_found": ProblemType(
        404,
        "No such delivery",
        "Your tenant has no webhook delivery with this id; finished ones are kept for seven days.",
        "GET /v1/webhook-endpoints/{id}/deliveries lists the deliveries of an endpoint.",
    ),
    "label_set_not_found": ProblemType(
        404,
        "No such label set",
        "Your tenant has no label set of this name, or no longer stores this version.",
        "GET /v1/label-sets lists your label sets and the versions that are stored.",
    ),
    "method_not_allowed": ProblemType(
        405,
        "Method not allowed",
        "The path does not support this method.",
        "Use a method listed in the Allow header.",
    ),
    "request_timeout": ProblemType(
        408,
        "Request timeout",
        "The request body stalled or arrived too slowly.",
        "Repeat the request (with its Idempotency-Key) over a better connection, or as several jobs.",
        {"Connection": "close"},  # the rest of the body stays unread, so the connection cannot be used again
    ),
    "idempotency_in_progress": ProblemType(
        409,
        "Request already in progress",
        "A request with the same Idempotency-Key is still in progress.",
        "Repeat the request after Retry-After; it will get the first request's response.",
    ),
    "job_not_terminal": ProblemType(
        409,
        "Job not finished",
        "This operation requires a job that has ended.",
        "Wait for the job, or cancel it first.",
    ),
    "nothing_to_retry": ProblemType(
        409,
        "Nothing to retry",
        "Every document of the job succeeded.",
        "Read the results.",
    ),
    "already_retried": ProblemType(
        409,
        "Already retried",
        "Another job already retries this one, or the job was deleted during the retry.",
        "Follow the job named in `retried_by`; if some of its documents fail, retry that job.",
    ),
    "endpoint_disabled": ProblemType(
        409,
        "Webhook endpoint disabled",
        "The endpoint is disabled, so nothing can be delivered to it.",
        "See its `disabled_reason`, then PATCH its status to `active`; waiting events are then delivered.",
    ),
    "job_purged": ProblemType(
        410,
        "Job purged",
        "The job, or the job created with this Idempotency-Key, was deleted or its results expired.",
        "Submit it again with a new Idempotency-Key; set `result_ttl_s` to keep results longer.",
    ),
    "texts_dropped": ProblemType(
        410,
        "Texts deleted",
        "The job was cancelled, and its texts were deleted when the time for a retry ended.",
        "Submit the documents again; `retry_text_ttl_s` in GET /v1/limits is the time for a retry.",
    ),
    "payload_too_large": ProblemType(
        413,
        "Body too large",
        "The request body exceeds the limit named in the detail.",
        "Split the documents into several jobs.",
    ),
    "too_many_documents": ProblemType(
        413,
        "Too many documents",
        "The request has more documents than the limit named in the detail.",
        "Split the documents into several jobs.",
    ),
    "unsupported_media_type": ProblemType(
        415,
        "Unsupported media type",
        "This path does not support the body's Content-Type or Content-Encoding.",
        "Send `Content-Type: application/json`, uncompressed.",
    ),
    "validation_failed": ProblemType(
        422,
        "Invalid request",
        "The request is well-formed but breaks a rule; `errors` lists each violation.",
        "Correct the fields listed in `errors` (JSON Pointers; `query:` and `header:` for parameters).",
    ),
    "unknown_model": ProblemType(
        422,
        "Unknown model",
        "The job names a model that this service is not configured for.",
        "Use a model listed by GET /v1/models.",
    ),
    "unsupported_task": ProblemType(
        422,
        "Unsupported task",
        "The job or one of its documents asks for a task, such as relations, that its model cannot do.",
        "Use a model whose `tasks` in GET /v1/models include it, or leave out the fields listed in `errors`.",
    ),
    "webhook_url_forbidden": ProblemType(
        422,
        "Webhook URL not allowed",
        "The URL is not a plain https URL, or its host does not exist or resolves to a non-public address.",
        "Use a public https URL; the service's operator can allow other receivers with GLEANER_WEBHOOK_ALLOW.",
    ),
    "idempotency_key_reused": ProblemType(
        422,
        "Idempotency-Key reused",
        "The Idempotency-Key was used for an earlier request with a different body or path.",
        "Use a new key for every new request; reuse a key only to repeat the same request.",
    ),
    "rate_limited": ProblemType(
        429,
        "Too many requests",
        "Your key, your tenant or your address (for requests without a valid key) exceeded a rate limit, or "
        "too many of your streams and waits are open.",
        "Wait for Retry-After; `RateLimit` shows the remaining quota, GET /v1/limits all limits.",
    ),
    "quota_exceeded": ProblemType(
        429,
        "Quota exceeded",
        "Your key or tenant reached its limit of open work, stored bytes or daily submissions.",
        "Wait for Retry-After or for open jobs to finish, or DELETE jobs whose results you have read; GET "
        "/v1/limits shows what remains.",
    ),
    "internal_error": ProblemType(
        500,
        "Internal error",
        "The service failed unexpectedly.",
        "Repeat the request (with its Idempotency-Key); report the request_id if the error persists.",
    ),
    "keys_unavailable": ProblemType(
        503,
        "API keys unavailable",
        "The service has not been able to read its keys file for too long and accepts no key.",
        "Repeat the request after Retry-After; the service's operator must repair the keys file.",
    ),
    "overloaded": ProblemType(
        503,
        "Service overloaded",
        "The service's backlog is full.",
        "Repeat the request after Retry-After, which is estimated from the current speed.",
    ),
    "storage_unavailable": ProblemType(
        503,
        "Storage unavailable",
        "Redis is unreachable or read-only; the request may or may not have taken effect.",
        "Repeat the request after Retry-After, with the same Idempotency-Key.",
    ),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """An error response; the fields as in `GatewayError`."""

    code: ErrorCode
    detail: str
    violations: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self, request_id: str) -> dict[str, Any]:
        """Return the problem as JSON, RFC 9457's members first."""
        kind = REGISTRY[self.code]
        body: dict[str, Any] = {
            "type": f"/problems/{self.code}",
            "title": kind.title,
            "status": kind.status,
            "detail": _replace_surrogates(self.detail),
            "code": self.code,
            "request_id": request_id,
        }
        if self.violations:
            body["errors"] = [
                {"pointer": _replace_surrogates(at), "detail": _replace_surrogates(text)}
                for at, text in self.violations
            ]
        return body

    def to_response(self, request_id: str) -> Response:
        """Return the problem as an HTTP response."""
        kind = REGISTRY[self.code]
        return Response(
            escape_line_breaks(json.dumps(self.to_dict(request_id), ensure_ascii=False).encode()),
            status_code=kind.status,
            media_type=MEDIA_TYPE,
            headers={**kind.headers, **self.headers},
        )


def build_example(code: ErrorCode) -> dict[str, Any]:
    """Return an example of a response with this code."""
    # pragma: allowlist nextline secret
    return Problem(code, REGISTRY[code].meaning).to_dict("0af7651916cd43dd8448eb211c80319c")


def to_problem(error: Exception) -> Problem:
    """Convert an exception into a problem; re-raise exceptions that clients must not see."""
    match error:
        case GatewayError():
            return Problem(error.code, error.detail, error.violations, _error_headers(error))
        case LedgerUnavailableError():
            log.warning("ledger.unavailable", extra={"reason": str(error)})
            detail = "the ledger did not answer; try again later"
            return Problem("storage_unavailable", detail, headers={"Retry-After": "2"})
        case CodecError():
            log.error("blob.unreadable", extra={"reason": str(error)})
            return Problem("internal_error", "the stored data of this job cannot be read")
        case RequestValidationError():
            errors = [(_parameter_name(item), str(item["msg"]).removeprefix("Input ")) for item in error.errors()]
            return Problem("validation_failed", "a parameter is not valid", errors)
        case HTTPException():
            return _framework_problem(error)
    raise error


EXPECTED_ERRORS = (GatewayError, LedgerUnavailableError, CodecError, RequestValidationError, HTTPException)
"""The exceptions that `to_problem` converts."""


def _error_headers(error: GatewayError) -> dict[str, str]:
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, UnsupportedEncodingError):
        headers["Accept-Encoding"] = ", ".join(error.supported)
    return headers


def _parameter_name(item: Mapping[str, Any]) -> str:
    kind, *rest = item["loc"]
    return ":".join(map(str, (kind, *rest[:1])))


def _framework_problem(error: HTTPException) -> Problem:
    """Convert a refusal of the framework: an unknown path or method; no other is expected."""
    codes: dict[int, tuple[ErrorCode, str]] = {
        404: ("not_found", "nothing is served at this path"),
        405: ("method_not_allowed", "this path has no such method"),
    }
    code, detail = codes.get(error.status_code, ("internal_error", "the request could not be processed"))
    return Problem(code, detail, headers=error.headers or {})


def _replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()
