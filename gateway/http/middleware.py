"""The outermost layer: request ids, security headers, metrics, one log line, and a last answer when all else fails.

Pure ASGI, so that streams pass through untouched.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
import traceback
from collections.abc import Collection, Iterable
from typing import Literal
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access import rate_limits
from gateway.access.anonymous import AnonymousRate
from gateway.access.auth import RATE_LIMIT_STATUSES
from gateway.http.problems import Problem
from jobs.observability.logs import bind_fields
from jobs.observability.metrics import GatewayMetrics

log = logging.getLogger(__name__)

RawHeader = tuple[bytes, bytes]

REQUEST_ID = "gleaner.request_id"
_CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_OTHER = "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUIET = frozenset({"/livez", "/readyz"})
_SECURITY: tuple[RawHeader, ...] = tuple(
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


class StreamAbortedError(Exception):
    """A response that has begun cannot be finished; the connection ends without its proper end."""


class EdgeMiddleware:
    """Wraps the app.

    Args:
        app: what answers.
        metrics: where requests are counted.
        anonymous: where requests without a key are counted.
        https: what plain HTTP gets, probes aside (as the setting of this name).
        hosts: where plain HTTP is redirected to; none: to the Host of the request.
        hsts_s: how long browsers shall keep to https; told over https, where it is enforced.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: GatewayMetrics,
        anonymous: AnonymousRate,
        https: Literal["off", "redirect", "require"],
        hsts_s: int,
        hosts: Collection[str] = (),
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._anonymous = anonymous
        self._https = https
        self._hosts = frozenset(host.lower() for host in hosts)
        self._hsts = f"max-age={hsts_s}" if https != "off" and hsts_s else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope[REQUEST_ID] = _choose_request_id(scope)
        status = 0
        began = time.perf_counter()

        async def send_dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = self._dressed(scope, message["headers"], request_id)
            await send(message)

        with bind_fields(request_id=request_id):
            try:
                app = self._plain_http(scope) or self._refusal(scope) or self._app
                await app(scope, receive, send_dressed)
            except ClientDisconnect:
                status = status or 499  # nginx's word for it; nobody reads the answer
            except StreamAbortedError as error:
                # Returning without the last chunk makes the server cut the connection: the client sees a broken
                # stream, not a short one.
                log.warning("http.stream_aborted", extra={"reason": str(error)})
            except Exception as error:  # noqa: BLE001  # the last resort: logged, counted and answered here
                _log_failure(error)
                if status == 0:
                    problem = Problem("internal_error", "the request could not be worked on")
                    await problem.response(request_id)(scope, receive, send_dressed)
            finally:
                self._note(scope, status, time.perf_counter() - began)

    def _dressed(self, scope: Scope, headers: Iterable[RawHeader], request_id: str) -> list[RawHeader]:
        """The answer's headers with ours: what a route set itself stays, what only we know replaces it."""
        ours = {b"x-request-id": request_id.encode("latin-1")}
        for name, value in rate_limits.format_headers(scope.get(RATE_LIMIT_STATUSES, {}).values()).items():
            ours[name.lower().encode()] = value.encode("latin-1")
        if self._hsts and scope["scheme"] == "https":
            ours[b"strict-transport-security"] = self._hsts.encode()
        dressed = [header for header in headers if header[0] not in ours]
        taken = {name for name, _ in dressed}
        return [*dressed, *ours.items(), *(header for header in _SECURITY if header[0] not in taken)]

    def _plain_http(self, scope: Scope) -> Response | None:
        """What is answered to a request that should have come over https."""
        if self._https == "off" or scope["scheme"] == "https" or scope["path"] in _QUIET:
            return None
        if self._https == "redirect" and scope["method"] in ("GET", "HEAD"):
            host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
            if (match := _HOST.fullmatch(host)) and (not self._hosts or match["name"].lower() in self._hosts):
                return Response(status_code=308, headers={"Location": f"https://{host}{_target(scope)}"})
            detail = "use https; the request's Host is not one that it is sent to"
            return Problem("https_required", detail).response(request_id(scope))
        # Not redirected: a body, or a key that sits in a script, would go in the clear for ever.
        detail = "use https; a key that came over plain HTTP should be rotated"
        return Problem("https_required", detail).response(request_id(scope))

    def _refusal(self, scope: Scope) -> Response | None:
        """What is answered to who asks too often for what needs no key; the API's routes count for themselves.

        Probes are not counted: where clients' addresses are not known, as behind a proxy that is not trusted,
        somebody else's requests must not make the gateway look dead.
        """
        if scope["path"].startswith("/v1/") or scope["path"] in _QUIET:
            return None
        try:
            self._anonymous.count_request(scope["client"][0] if scope["client"] else "")
        except Problem as problem:
            return problem.response(request_id(scope))
        return None

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = _route(scope), scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.http_requests.labels(route, method, str(status)).inc()
        self._metrics.http_seconds.labels(route, method).observe(seconds)
        level = logging.DEBUG if route in _QUIET else logging.INFO
        log.log(
            level,
            "http.request",
            extra={"route": route, "method": method, "status": status, "ms": round(seconds * 1000, 1)},
        )


def request_id(scope: Scope) -> str:
    """The id of the request of this scope."""
    found: str = scope.get(REQUEST_ID, "")
    return found


def _choose_request_id(scope: Scope) -> str:
    """The client's X-Request-ID if it is a plain token, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given: str = value.decode("latin-1")
            if _CLIENT_ID.fullmatch(given):
                return given
    return secrets.token_hex(16)


def _target(scope: Scope) -> str:
    """Return path and query as they came."""
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    query: bytes = scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")


def _route(scope: Scope) -> str:
    """The template of the API route that answered: never the path itself, which holds ids."""
    route = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    return path or _OTHER


def _log_failure(error: Exception) -> None:
    """Where it failed and how, without the message, which may quote a text."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
    log.error("http.failed", extra={"error": type(error).__name__, "where": where})
