"""What can go wrong, as one short tree; the names in brackets are the problem `code`s of docs/reference/errors.md.

::

    GleanerError
    ├── TransportError              no answer at all: refused, reset, timed out, not TLS
    ├── WebhookVerificationError    an event that is not genuine; nothing to do with a gateway's answer
    ├── WaitTimeout                 `job.wait(timeout)` ended first; the job goes on (also a TimeoutError)
    └── ApiError                    the gateway's answer, with `status`, `code`, `detail`, `request_id`
        ├── BadRequest              400, 405 [malformed_json, bad_content_encoding, bad_cursor, method_not_allowed]
        ├── AuthenticationError     401 [unauthenticated]
        ├── PermissionDenied        403 [forbidden, csrf_refused, https_required]
        ├── NotFound                404 [not_found, job_not_found, document_not_found, endpoint_not_found,
        │                           delivery_not_found]
        ├── Conflict                409 [idempotency_in_progress, job_not_terminal, nothing_to_retry,
        │                           already_retried, endpoint_disabled]
        ├── Gone                    410 [job_purged, texts_dropped]
        ├── TooLarge                413 [payload_too_large, too_many_documents]
        ├── ValidationError         415, 422 [validation_failed, unknown_model, idempotency_key_reused,
        │                           unsupported_media_type, webhook_url_forbidden], with `errors`
        ├── RateLimited             429 [rate_limited, quota_exceeded], with `retry_after`
        ├── Unavailable             408, 502, 503, 504 [request_timeout, overloaded, storage_unavailable,
        │                           keys_unavailable], with `retry_after`
        └── ServerError             any other answer [internal_error]

A document that fails is no exception: its `Result` carries the `error`.
"""
# ruff: noqa: N818 - named after what the gateway said; `except gleaner.NotFound` reads better than NotFoundError

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx


class GleanerError(Exception):
    """Base of everything this package raises."""


class TransportError(GleanerError):
    """No answer arrived, and the retries are used up."""


class WaitTimeout(GleanerError, TimeoutError):
    """The job was not finished in the time `wait` was given; it goes on, and can be waited for again."""


class WebhookVerificationError(GleanerError):
    """An event whose signature does not fit, or whose time is not now."""


class ApiError(GleanerError):
    """The gateway refused.

    Attributes:
        status: HTTP status.
        code: the problem's code, the word to branch on; `http_<status>` where something else answered.
        detail: a sentence for people.
        request_id: what the gateway's log calls this request, if known.
        errors: what is wrong where, as (JSON pointer into the request, detail).
        retry_after: seconds the gateway asked to wait, if it did.
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
        known_as = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.detail} [{self.status} {self.code}]{known_as}{where}"


class BadRequest(ApiError):
    """The request could not be read, or its path takes no such method."""


class AuthenticationError(ApiError):
    """No key, or one the gateway does not know."""


class PermissionDenied(ApiError):
    """The key is known, but its role may not do this."""


class NotFound(ApiError):
    """No such job, document, endpoint or delivery, or another tenant's."""


class Conflict(ApiError):
    """The state of the job or endpoint, or a request still running under the same Idempotency-Key, forbids this."""


class Gone(ApiError):
    """The job was purged, by request or because its time was over."""


class TooLarge(ApiError):
    """Too many documents or bytes for one job; `/v1/limits` says how many are allowed."""


class ValidationError(ApiError):
    """The request was read, and is wrong; `errors` says where."""


class RateLimited(ApiError):
    """Too many requests or open jobs for this tenant; `retry_after` says when to come back."""


class Unavailable(ApiError):
    """Overloaded, store or keys out of reach, or the body too slow; `retry_after` says when to come back."""


class ServerError(ApiError):
    """The service's own mistake, or an answer this client cannot explain."""


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
    """The error that an answer stands for: problem+json, or whatever a proxy in between said."""
    problem = _problem(response)
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
    """Seconds to wait by `Retry-After` (a number, or a date set against the answer's own), never negative."""
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


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
