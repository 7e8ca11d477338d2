"""Every error of the API: one registry of codes, one exception, one shape (RFC 9457 problem+json).

Code below the routes raises `Problem` with a code; only this file knows what status it becomes.
docs/reference/errors.md is generated from `REGISTRY`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from starlette.responses import Response

from jobs.lines import escape_line_breaks

ProblemCode = Literal[
    "malformed_json",
    "bad_content_encoding",
    "bad_cursor",
    "unauthenticated",
    "forbidden",
    "csrf_refused",
    "https_required",
    "not_found",
    "job_not_found",
    "document_not_found",
    "endpoint_not_found",
    "delivery_not_found",
    "method_not_allowed",
    "request_timeout",
    "idempotency_in_progress",
    "job_not_terminal",
    "nothing_to_retry",
    "already_retried",
    "endpoint_disabled",
    "job_purged",
    "texts_dropped",
    "payload_too_large",
    "too_many_documents",
    "unsupported_media_type",
    "validation_failed",
    "unknown_model",
    "webhook_url_forbidden",
    "idempotency_key_reused",
    "rate_limited",
    "quota_exceeded",
    "internal_error",
    "keys_unavailable",
    "overloaded",
    "storage_unavailable",
]

MEDIA_TYPE = "application/problem+json"
_MAX_POINTER_PART = 128


@dataclass(frozen=True, slots=True)
class ProblemType:
    """What a code means and what its reader can do about it."""

    code: ProblemCode
    status: int
    title: str
    meaning: str
    remedy: str


REGISTRY: Mapping[str, ProblemType] = {
    kind.code: kind
    for kind in (
        ProblemType(
            "malformed_json",
            400,
            "Malformed JSON",
            "The request body is not JSON text in UTF-8, or says the same name twice in one object.",
            "Send what a JSON library writes; NaN and Infinity are not JSON.",
        ),
        ProblemType(
            "bad_content_encoding",
            400,
            "Bad compressed body",
            "The request body is not what its Content-Encoding says, or ends in its middle.",
            "Compress the whole body as gzip or zstd, or send it as it is.",
        ),
        ProblemType(
            "bad_cursor",
            400,
            "Bad cursor",
            "The cursor is not one that this API handed out.",
            "Pass `next_cursor` of the page before, unchanged, or none to begin again.",
        ),
        ProblemType(
            "unauthenticated",
            401,
            "Missing or unknown API key",
            "The request carries no API key, or one that is unknown, expired or revoked.",
            "Send `Authorization: Bearer gl_…` or `X-API-Key: gl_…`; `gleaner keys create` makes a key.",
        ),
        ProblemType(
            "forbidden",
            403,
            "Role too low",
            "The API key is good, but its role does not allow this.",
            "Use a key of the role that the detail names.",
        ),
        ProblemType(
            "csrf_refused",
            403,
            "Cookie alone is not enough",
            "The key came in a cookie, and the request could be another site's doing.",
            "Send `X-Gleaner-CSRF: 1` with every request that changes something, from the service's own origin.",
        ),
        ProblemType(
            "https_required",
            403,
            "HTTPS required",
            "The request came over plain HTTP, which this service does not answer.",
            "Use https; a key that went over plain HTTP should be rotated.",
        ),
        ProblemType(
            "not_found",
            404,
            "No such resource",
            "Nothing is served at this path.",
            "See /openapi.json for what is.",
        ),
        ProblemType(
            "job_not_found",
            404,
            "No such job",
            "Your tenant has no job of this id.",
            "Check the id, and that the key belongs to the tenant that submitted the job.",
        ),
        ProblemType(
            "document_not_found",
            404,
            "No such document",
            "The job has no document of this id.",
            "Use the id that was submitted, or the document's index where it had none.",
        ),
        ProblemType(
            "endpoint_not_found",
            404,
            "No such webhook endpoint",
            "Your tenant has no webhook endpoint of this id.",
            "GET /v1/webhook-endpoints lists what it has; the endpoint of a single job goes a week after it.",
        ),
        ProblemType(
            "delivery_not_found",
            404,
            "No such delivery",
            "Your tenant has no webhook delivery of this id; one that ended is kept for seven days.",
            "GET /v1/webhook-endpoints/{id}/deliveries lists what there is.",
        ),
        ProblemType(
            "method_not_allowed",
            405,
            "Method not allowed",
            "The path exists, but not for this method.",
            "Use a method that the Allow header names.",
        ),
        ProblemType(
            "request_timeout",
            408,
            "Body too slow",
            "The request body stopped coming, or came too slowly to wait for.",
            "Repeat the request (with its Idempotency-Key) over a better connection, or in smaller pieces.",
        ),
        ProblemType(
            "idempotency_in_progress",
            409,
            "First request still running",
            "A request with the same Idempotency-Key is being worked on right now.",
            "Repeat the request after Retry-After; it will get the first one's answer.",
        ),
        ProblemType(
            "job_not_terminal",
            409,
            "Job still open",
            "The job has not ended yet, and this needs it to have ended.",
            "Wait for the job, or cancel it first.",
        ),
        ProblemType(
            "nothing_to_retry",
            409,
            "Nothing to retry",
            "Every document of the job succeeded.",
            "Read the results.",
        ),
        ProblemType(
            "already_retried",
            409,
            "Already retried",
            "Another job retries this one, or the job was removed while the retry was made.",
            "Follow the job that `retried_by` names; retry that one if it leaves documents over.",
        ),
        ProblemType(
            "endpoint_disabled",
            409,
            "Webhook endpoint disabled",
            "The endpoint gets no events, so that nothing can be delivered to it.",
            "See its `disabled_reason`, then PATCH it to `active`; what waited is delivered then.",
        ),
        ProblemType(
            "job_purged",
            410,
            "Job purged",
            "The job, or the one that this Idempotency-Key made, was removed, by DELETE or because its results "
            "expired.",
            "Submit it again, under a new Idempotency-Key; a longer `result_ttl_s` keeps results longer.",
        ),
        ProblemType(
            "texts_dropped",
            410,
            "Texts dropped",
            "The job was cancelled, and the time in which it could be retried is over: its texts are not kept.",
            "Submit the documents again; `retry_text_ttl_s` of GET /v1/limits says how long a retry is possible.",
        ),
        ProblemType(
            "payload_too_large",
            413,
            "Body too large",
            "The request body is larger than the limit that the detail names.",
            "Split the job into several.",
        ),
        ProblemType(
            "too_many_documents",
            413,
            "Too many documents",
            "The request has more documents than the limit that the detail names.",
            "Split the job into several.",
        ),
        ProblemType(
            "unsupported_media_type",
            415,
            "Unsupported media type",
            "The body's Content-Type or Content-Encoding is not one that this path reads.",
            "Send `Content-Type: application/json`, not compressed.",
        ),
        ProblemType(
            "validation_failed",
            422,
            "Request not valid",
            "The request is well-formed but breaks a rule; `errors` points at each place.",
            "Correct the places that `errors` names (JSON Pointers; `query:` and `header:` for parameters).",
        ),
        ProblemType(
            "unknown_model",
            422,
            "Unknown model",
            "The job asks for a model that this service is not set up for.",
            "Ask for one that GET /v1/models lists.",
        ),
        ProblemType(
            "webhook_url_forbidden",
            422,
            "Webhook URL not allowed",
            "The URL is not plain https, or its host does not exist or leads to an address that is not public.",
            "Use a public https URL; whoever runs the service can open receivers with GLEANER_WEBHOOK_ALLOW.",
        ),
        ProblemType(
            "idempotency_key_reused",
            422,
            "Idempotency-Key used for another request",
            "The Idempotency-Key belongs to an earlier request with another body or path.",
            "Make a new key for every new request; keep it only when repeating the same one.",
        ),
        ProblemType(
            "rate_limited",
            429,
            "Too many requests",
            "Your key, your tenant, or requests without a good key from your address, came faster than is allowed; "
            "or you hold too many streams and waits open.",
            "Wait for Retry-After; `RateLimit` tells how much is left, GET /v1/limits all of it.",
        ),
        ProblemType(
            "quota_exceeded",
            429,
            "Quota exceeded",
            "Your key or tenant has as much open work, or keeps as many bytes, as it may, or has used up what it "
            "may hand in a day.",
            "Wait for Retry-After or for open jobs to finish, DELETE jobs whose results were read; GET /v1/limits "
            "tells what is left.",
        ),
        ProblemType(
            "internal_error",
            500,
            "Internal error",
            "Something went wrong in the service itself.",
            "Repeat the request (with its Idempotency-Key); report the request_id if it stays.",
        ),
        ProblemType(
            "keys_unavailable",
            503,
            "Keys cannot be checked",
            "The service has been unable to read its keys file for too long, so that it accepts no key.",
            "Repeat the request after Retry-After; whoever runs the service has to mend the keys file.",
        ),
        ProblemType(
            "overloaded",
            503,
            "Backlog full",
            "The service has as much open work as it accepts.",
            "Repeat the request after Retry-After, which follows the measured speed.",
        ),
        ProblemType(
            "storage_unavailable",
            503,
            "Store unavailable",
            "The job store cannot be reached or cannot be written; the request may or may not have worked.",
            "Repeat the request after Retry-After, with the same Idempotency-Key.",
        ),
    )
}


class Problem(Exception):  # noqa: N818  # RFC 9457's own word
    """A refusal that the client sees.

    Args:
        code: which of `REGISTRY`.
        detail: what is wrong with this request; may name limits and places, never quotes a text.
        errors: (JSON Pointer or `query:name` or `header:Name`, what is wrong there) of each place.
        headers: further response headers.
    """

    def __init__(
        self,
        code: ProblemCode,
        detail: str,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.code: ProblemCode = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return REGISTRY[self.code].status

    def body(self, request_id: str) -> dict[str, Any]:
        """The problem as JSON, RFC 9457's members first."""
        kind = REGISTRY[self.code]
        body: dict[str, Any] = {
            "type": f"/problems/{self.code}",
            "title": kind.title,
            "status": kind.status,
            "detail": replace_surrogates(self.detail),
            "code": self.code,
            "request_id": request_id,
        }
        if self.errors:
            body["errors"] = [
                {"pointer": replace_surrogates(at), "detail": replace_surrogates(what)} for at, what in self.errors
            ]
        return body

    def response(self, request_id: str) -> Response:
        """The problem as an HTTP response."""
        return Response(
            escape_line_breaks(json.dumps(self.body(request_id), ensure_ascii=False).encode()),
            status_code=self.status,
            media_type=MEDIA_TYPE,
            headers=self.headers,
        )


def json_pointer(*parts: str | int) -> str:
    """A JSON Pointer (RFC 6901); parts that a client chose are cut to a length that can be shown."""
    return "".join("/" + _escaped(part) for part in parts)


def replace_surrogates(text: str) -> str:
    """The text with what UTF-8 cannot say (lone surrogates) replaced."""
    return text.encode("utf-8", "replace").decode()


def _escaped(part: str | int) -> str:
    text = str(part)
    if len(text) > _MAX_POINTER_PART:
        text = text[:_MAX_POINTER_PART] + "…"
    return text.replace("~", "~0").replace("/", "~1")
