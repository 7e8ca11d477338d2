"""Requests as the code below the routes reads them, and work that ends with the client's connection."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Self, TypeVar, cast
from urllib.parse import urlsplit

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from gateway.access.auth import Credentials
from gateway.access.sessions import Sessions
from gateway.settings import GatewaySettings
from gateway.submission.types import IncomingRequest

T = TypeVar("T")

QUERY = "api_key"
CSRF_HEADER = "X-Gleaner-CSRF"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class BodyStream:
    """Iterates over the chunks of a body as they arrive. A class, as the event loop tracks asynchronous generators.

    Raises (when read):
        ClientDisconnect: the client closed the connection.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._more = True

    def __aiter__(self) -> Self:
        """Return the iterator."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next chunk, which may be empty."""
        if not self._more:
            raise StopAsyncIteration
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self._more = message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk


def to_incoming(request: Request) -> IncomingRequest:
    """Return the parts of a request that a submission consists of."""
    return IncomingRequest(request.scope["path"], request.headers, BodyStream(request.receive))


def read_credentials(request: Request, settings: GatewaySettings, sessions: Sessions) -> Credentials:
    """Return what a request says about its sender; a key in the query or a cookie only if the settings allow it."""
    address = request.client.host if request.client else ""
    key = key_in_headers(request) or (request.query_params.get(QUERY) if settings.auth_query else None)
    if key or not settings.auth_cookie:
        return Credentials(address, key)
    token = request.cookies.get(sessions.cookie_name(request.url.scheme))
    forgery = None if request.method in _SAFE else _forgery_reason(request)
    return Credentials(address, session_token=token, forgery=forgery)


def key_in_headers(request: Request) -> str | None:
    """Return the key that a request carries in a header, or None."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and (presented := credentials.strip()):
        return presented
    return request.headers.get("x-api-key")


async def run_while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`; cancel it if the client closes the connection first.

    Raises:
        ClientDisconnect: the client closed the connection.
    """
    disconnected = False

    async def cancel_on_disconnect(task: asyncio.Task[Any]) -> None:
        nonlocal disconnected
        while (await request.receive())["type"] != "http.disconnect":
            pass
        disconnected = True
        task.cancel()

    task = cast("asyncio.Task[Any]", asyncio.current_task())  # a running coroutine is always in a task
    watcher = asyncio.create_task(cancel_on_disconnect(task))
    try:
        return await work
    except asyncio.CancelledError:
        if disconnected and not task.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()


def _forgery_reason(request: Request) -> str | None:
    """Return the reason why another site could have forged a request with a cookie, or None.

    The cookie itself is SameSite=Strict; a custom header cannot be sent by another site's form, nor by its script
    without CORS, which never allows this header.
    """
    if not request.headers.get(CSRF_HEADER):
        return f"with a session cookie this request needs the header {CSRF_HEADER}"
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return "the request comes from another site"
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        return "the request comes from another origin"
    return None
