"""The error that refuses a request: a code, and what went wrong. How it is answered: `gateway.http.problems`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

ErrorCode = Literal[
    "malformed_json", "bad_content_encoding", "bad_cursor", "unauthenticated", "forbidden", "csrf_refused",
    "https_required", "not_found", "job_not_found", "document_not_found", "endpoint_not_found",
    "delivery_not_found", "label_set_not_found", "method_not_allowed", "request_timeout", "idempotency_in_progress",
    "job_not_terminal", "nothing_to_retry", "already_retried", "endpoint_disabled", "job_purged",
    "texts_dropped", "payload_too_large", "too_many_documents", "unsupported_media_type", "validation_failed",
    "unknown_model", "unsupported_task", "webhook_url_forbidden", "idempotency_key_reused", "rate_limited",
    "quota_exceeded", "internal_error", "keys_unavailable", "overloaded", "storage_unavailable",
]  # fmt: skip


class GatewayError(Exception):
    """A request that is refused, or that cannot be fulfilled.

    Args:
        code: stable; clients branch on it.
        detail: the problem with this request; may name limits and fields, never quotes a text.
        violations: (JSON Pointer or `query:name` or `header:Name`, message) of each broken rule.
        retry_after_s: when a repetition may succeed (seconds); None if waiting does not help, or nobody knows.
    """

    def __init__(
        self,
        code: ErrorCode,
        detail: str,
        violations: Sequence[tuple[str, str]] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code)
        self.code: ErrorCode = code
        self.detail = detail
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s


class UnsupportedEncodingError(GatewayError):
    """A body that is compressed in a way this service cannot decode; `supported` names the encodings it can."""

    def __init__(self, supported: Sequence[str]) -> None:
        super().__init__("unsupported_media_type", f"the Content-Encoding must be {', '.join(supported)} or absent")
        self.supported = tuple(supported)


class StreamAbortedError(Exception):
    """A response that has begun cannot be finished; the connection is cut."""
