"""The outermost layer: request ids, security headers, metrics, one log line, and the response to unexpected errors.

Pure ASGI, so that streams pass through unchanged.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import cast
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.anonymous import AnonymousRate
from gateway.access.rate_limits import RateLimitStatus
from gateway.errors import GatewayError, StreamAbortedError
from gateway.http.problems import Problem, to_problem
from gateway.settings import GatewaySettings
from jobs.observability.logs import bind_fields, log_failure
from jobs.observability.metrics import GatewayMetrics

log = logging.getLogger(__name__)

RawHeader = tuple[bytes, bytes]

REQUEST_ID = "gleaner.request_id"
_RATE_LIMITS = "gleaner.rate_limits"
_CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_OTHER_ROUTE = "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PROBE_PATHS = frozenset({"/livez", "/readyz"})
_SECURITY_HEADERS: tuple[RawHeader, ...] = tuple(
    (name.lower().encode(), value.encode())
    for name, value in {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'none'",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cache-Control": "no-store",
    }.items()
)


class EdgeMiddleware:
    """Wraps the app.

    Args:
        app: the wrapped application.
        metrics: counts requests.
        anonymous: limits requests without a key.
        settings: the response to plain HTTP.
    """

    def __init__(
        self, app: ASGIApp, metrics: GatewayMetrics, anonymous: AnonymousRate, settings: GatewaySettings
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._anonymous = anonymous
        self._https = settings.https
        self._hosts = frozenset(host.lower() for host in settings.https_hosts)
        self._hsts = f"max-age={settings.hsts_s}" if settings.https != "off" and settings.hsts_s else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope[REQUEST_ID] = _choose_request_id(scope)
        status = 0
        started_at = time.perf_counter()

        async def send_completed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = self._complete_headers(scope, message["headers"], request_id)
            await send(message)

        with bind_fields(request_id=request_id):
            try:
                app = self._redirect_or_refuse_http(scope) or self._limit_anonymous(scope) or self._app
                await app(scope, receive, send_completed)
            except ClientDisconnect:
                status = status or 499  # nginx's code for it; no client reads the response
            except StreamAbortedError as error:
                # Returning without the last chunk makes the server cut the connection: the client sees a broken
                # stream, not a short one.
                log.warning("http.stream_aborted", extra={"reason": str(error)})
            except Exception as error:  # noqa: BLE001  # the last resort: logged, counted and answered here
                log_failure(log, "http.failed", error)
                if status == 0:
                    problem = Problem("internal_error", "the request could not be processed")
                    await problem.to_response(request_id)(scope, receive, send_completed)
            finally:
                self._record_request(scope, status, time.perf_counter() - started_at)

    def _complete_headers(self, scope: Scope, headers: Iterable[RawHeader], request_id: str) -> list[RawHeader]:
        """Return a response's headers with ours; a route's own values stay, except for those set here only."""
        own_headers = {b"x-request-id": request_id.encode("latin-1")}
        own_headers.update(_format_rate_limits(scope.get(_RATE_LIMITS, ())))
        if self._hsts and scope["scheme"] == "https":
            own_headers[b"strict-transport-security"] = self._hsts.encode()
        route_headers = [header for header in headers if header[0] not in own_headers]
        route_names = {name for name, _ in route_headers}
        return [
            *route_headers,
            *own_headers.items(),
            *(header for header in _SECURITY_HEADERS if header[0] not in route_names),
        ]

    def _redirect_or_refuse_http(self, scope: Scope) -> Response | None:
        """Return the response to a request that should have come over https; None to go on."""
        if self._https == "off" or scope["scheme"] == "https" or scope["path"] in _PROBE_PATHS:
            return None
        if self._https == "redirect" and scope["method"] in ("GET", "HEAD"):
            host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
            if (match := _HOST.fullmatch(host)) and (not self._hosts or match["name"].lower() in self._hosts):
                return Response(status_code=308, headers={"Location": f"https://{host}{_path_and_query(scope)}"})
            detail = "use https; the request's Host is not a host of this service"
            return Problem("https_required", detail).to_response(get_request_id(scope))
        # Not redirected: a script would go on sending its bodies and key in the clear.
        detail = "use https; a key that came over plain HTTP should be rotated"
        return Problem("https_required", detail).to_response(get_request_id(scope))

    def _limit_anonymous(self, scope: Scope) -> Response | None:
        """Return a refusal to clients with too many requests outside the API, whose routes count themselves.

        Probes are not counted: where clients' addresses are unknown, as behind an untrusted proxy, other clients'
        requests must not make the gateway look dead.
        """
        if scope["path"].startswith("/v1/") or scope["path"] in _PROBE_PATHS:
            return None
        try:
            self._anonymous.count_request(scope["client"][0] if scope["client"] else "")
        except GatewayError as error:
            return to_problem(error).to_response(get_request_id(scope))
        return None

    def _record_request(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = _route_template(scope), scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.http_requests.labels(route, method, str(status)).inc()
        self._metrics.http_seconds.labels(route, method).observe(seconds)
        level = logging.DEBUG if route in _PROBE_PATHS else logging.INFO
        log.log(
            level,
            "http.request",
            extra={"route": route, "method": method, "status": status, "ms": round(seconds * 1000, 1)},
        )


def get_request_id(scope: Scope) -> str:
    """Return the request's id."""
    return cast("str", scope.get(REQUEST_ID, ""))


def report_rate_limits(scope: Scope, statuses: Sequence[RateLimitStatus]) -> None:
    """Add the status of rate limits to the headers of the response that is about to begin."""
    scope[_RATE_LIMITS] = (*scope.get(_RATE_LIMITS, ()), *statuses)


def _format_rate_limits(statuses: Sequence[RateLimitStatus]) -> dict[bytes, bytes]:
    """Return `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers) of these limits."""
    if not statuses:
        return {}
    policies = (f'"{s.limit.name}";q={s.limit.amount};w={s.limit.window_s}' for s in statuses)
    limits = (f'"{s.limit.name}";r={s.remaining};t={s.resets_s}' for s in statuses)
    return {b"ratelimit-policy": ", ".join(policies).encode(), b"ratelimit": ", ".join(limits).encode()}


def _choose_request_id(scope: Scope) -> str:
    """Return the client's X-Request-ID if it is a plain token, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            client_id: str = value.decode("latin-1")
            if _CLIENT_ID.fullmatch(client_id):
                return client_id
    return secrets.token_hex(16)


def _path_and_query(scope: Scope) -> str:
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    query: bytes = scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")


def _route_template(scope: Scope) -> str:
    """Return the template of the route that responded; never the path itself, which holds ids."""
    route = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    return path or _OTHER_ROUTE
