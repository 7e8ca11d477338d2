"""Exceptions of the client; the names in brackets are the problem `code`s of docs/reference/errors.md.

::

    GleanerError
    ├── TransportError              no response: refused, reset, timed out, not TLS
    ├── WebhookVerificationError    an event that is not authentic; raised by `verify_webhook` only
    ├── WaitTimeout                 `job.wait(timeout)` timed out; the job continues (also a TimeoutError)
    └── ApiError                    the gateway's response, with `status`, `code`, `detail`, `request_id`
        ├── BadRequest              400, 405 [malformed_json, bad_content_encoding, bad_cursor, method_not_allowed]
        ├── AuthenticationError     401 [unauthenticated]
        ├── PermissionDenied        403 [forbidden, csrf_refused, https_required]
        ├── NotFound                404 [not_found, job_not_found, document_not_found, endpoint_not_found,
        │                           delivery_not_found, label_set_not_found]
        ├── Conflict                409 [idempotency_in_progress, job_not_terminal, nothing_to_retry,
        │                           already_retried, endpoint_disabled]
        ├── Gone                    410 [job_purged, texts_dropped]
        ├── TooLarge                413 [payload_too_large, too_many_documents]
        ├── ValidationError         415, 422 [validation_failed, unknown_model, unsupported_task,
        │                           idempotency_key_reused, unsupported_media_type, webhook_url_forbidden],
        │                           with `errors`
        ├── RateLimited             429 [rate_limited, quota_exceeded], with `retry_after`
        ├── Unavailable             408, 502, 503, 504 [request_timeout, overloaded, storage_unavailable,
        │                           keys_unavailable], with `retry_after`
        └── ServerError             any other response [internal_error]

A document that fails raises nothing: its `Result` carries the `error`.
"""
# ruff: noqa: N818 - named after the gateway's responses; `except gleaner.NotFound` reads better than NotFoundError

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx


class GleanerError(Exception):
    """Base of all exceptions of this package."""


class TransportError(GleanerError):
    """No response arrived, and the retries are used up."""


class WaitTimeout(GleanerError, TimeoutError):
    """The job did not finish within the timeout of `wait`; it continues, and can be waited for again."""


class WebhookVerificationError(GleanerError):
    """The signature of an event does not match, or its timestamp is too far from now."""


class ApiError(GleanerError):
    """The gateway refused the request.

    Attributes:
        status: HTTP status.
        code: the problem's code, to branch on; `http_<status>` if the response is not the gateway's.
        detail: a sentence for people.
        request_id: the id of this request in the gateway's log, if known.
        errors: invalid fields, as (JSON pointer into the request, detail).
        retry_after: seconds to wait, if the gateway said so.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        request_id: str | None = None,
        errors: tuple[tuple[str, str], ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, code, detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id
        self.errors = errors
        self.retry_after = retry_after

    def __str__(self) -> str:
        where = "".join(f"\n  {pointer or '/'}: {detail}" for pointer, detail in self.errors)
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.detail} [{self.status} {self.code}]{request}{where}"


class BadRequest(ApiError):
    """The request could not be parsed, or its path does not allow the method."""


class AuthenticationError(ApiError):
    """No key was sent, or it is not valid."""


class PermissionDenied(ApiError):
    """The key is valid, but its role may not do this."""


class NotFound(ApiError):
    """No such job, document, endpoint or delivery, or another tenant's."""


class Conflict(ApiError):
    """The state of the job or endpoint does not allow this, or a request with its Idempotency-Key is running."""


class Gone(ApiError):
    """The job was purged, by request or because its retention time is over."""


class TooLarge(ApiError):
    """Too many documents or bytes for one job; `/v1/limits` has the limits."""


class ValidationError(ApiError):
    """The request is invalid; `errors` says where."""


class RateLimited(ApiError):
    """Too many requests or open jobs for this tenant; `retry_after` says when to try again."""


class Unavailable(ApiError):
    """Overloaded, Redis or keys unreachable, or the body too slow; `retry_after` says when to try again."""


class ServerError(ApiError):
    """An internal error of the service, or a response that this client cannot parse."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: BadRequest,
    401: AuthenticationError,
    403: PermissionDenied,
    404: NotFound,
    405: BadRequest,
    408: Unavailable,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    415: ValidationError,
    422: ValidationError,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def from_response(response: httpx.Response) -> ApiError:
    """Return the exception for an error response: problem+json, or any response of a proxy in between."""
    problem = _parse_problem(response)
    kind = _BY_STATUS.get(response.status_code, ServerError)
    return kind(
        response.status_code,
        str(problem.get("code") or f"http_{response.status_code}"),
        str(problem.get("detail") or problem.get("title") or response.reason_phrase or "no detail"),
        request_id=problem.get("request_id") or response.headers.get("x-request-id"),
        errors=tuple(
            (str(item.get("pointer", "")), str(item.get("detail", "")))
            for item in problem.get("errors") or ()
            if isinstance(item, dict)
        ),
        retry_after=retry_after(response.headers),
    )


def retry_after(headers: httpx.Headers) -> float | None:
    """Return the seconds to wait by `Retry-After` (a number, or a date relative to `Date`), never negative."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(value)
        now = parsedate_to_datetime(headers["date"])
        return max(0.0, (until - now).total_seconds())
    except (KeyError, TypeError, ValueError):
        return None


def _parse_problem(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
