from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from gateway.access.auth import Credentials
from gateway.access.sessions import Sessions
from gateway.http.requests import BodyStream, read_credentials, run_while_connected, to_incoming
from gateway.settings import GatewaySettings


def request(headers: dict[str, str] | None = None, method: str = "GET", *, query: str = "") -> Request:
    """Return a request over plain HTTP that nobody reads from."""
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": "/v1/jobs",
        "scheme": "http",
        "query_string": query.encode(),
        "client": ("192.0.2.7", 4711),
        "server": ("gateway", 80),
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
    }
    return Request(scope)


def credentials(settings: dict[str, Any], sent: Request) -> Credentials:
    """Return what a request says to a gateway with these settings."""
    read = GatewaySettings(auth="on", **settings)
    return read_credentials(sent, read, Sessions(None, read))  # type: ignore[arg-type]  # names cookies only


def stream(*messages: Message) -> BodyStream:
    """Return the body of these ASGI messages; to ask for more fails."""
    pending = iter(messages)

    async def receive() -> Message:
        return next(pending)

    return BodyStream(receive)


def body(chunk: bytes, more: bool) -> Message:
    """Return an ASGI message with a part of a body."""
    return {"type": "http.request", "body": chunk, "more_body": more}


@pytest.mark.anyio
async def test_a_body_ends_with_its_last_message() -> None:
    """The server is not asked again: it would wait until the connection closes."""
    chunks = stream(body(b"ab", True), body(b"", True), body(b"c", False))

    assert [chunk async for chunk in chunks] == [b"ab", b"", b"c"]
    assert [chunk async for chunk in chunks] == []


@pytest.mark.anyio
async def test_a_client_that_goes_away_ends_the_reading() -> None:
    """No half a body is taken for a whole one."""
    chunks = stream(body(b"ab", True), {"type": "http.disconnect"})

    assert await anext(chunks) == b"ab"
    with pytest.raises(ClientDisconnect):
        await anext(chunks)


def test_a_submission_consists_of_path_headers_and_body() -> None:
    """The body is read later, by the code below."""
    incoming = to_incoming(request({"content-type": "application/json"}))

    assert (incoming.path, incoming.headers["content-type"]) == ("/v1/jobs", "application/json")


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"authorization": "Bearer gl_a"}, "gl_a"),
        ({"authorization": "bearer  gl_a "}, "gl_a"),
        ({"authorization": "Basic gl_a"}, None),
        ({"authorization": "Bearer "}, None),
        ({"x-api-key": "gl_b"}, "gl_b"),
        ({"authorization": "Bearer gl_a", "x-api-key": "gl_b"}, "gl_a"),
        ({"authorization": "Basic x", "x-api-key": "gl_b"}, "gl_b"),
        ({}, None),
    ],
)
def test_a_key_comes_in_a_header(headers: dict[str, str], key: str | None) -> None:
    """The scheme's case does not matter; another scheme is no key."""
    assert credentials({}, request(headers)) == Credentials("192.0.2.7", key)


def test_query_and_cookie_count_only_where_allowed() -> None:
    """Both are off by default, and a key in a header wins."""
    sent = request({"cookie": "gleaner_session=gs_c"}, query="api_key=gl_q")

    assert credentials({}, sent) == Credentials("192.0.2.7")
    assert credentials({"auth_query": True}, sent).key == "gl_q"
    assert credentials({"auth_cookie": True}, sent) == Credentials("192.0.2.7", session_token="gs_c")
    both = request({"cookie": "gleaner_session=gs_c", "x-api-key": "gl_b"})
    assert credentials({"auth_cookie": True}, both) == Credentials("192.0.2.7", "gl_b")


@pytest.mark.parametrize(
    ("method", "headers", "reason"),
    [
        ("GET", {}, ""),
        ("POST", {}, "needs the header X-Gleaner-CSRF"),
        ("POST", {"x-gleaner-csrf": "1"}, ""),
        ("DELETE", {"x-gleaner-csrf": "1", "sec-fetch-site": "cross-site"}, "another site"),
        ("POST", {"x-gleaner-csrf": "1", "origin": "http://evil.test"}, "another origin"),
        ("POST", {"x-gleaner-csrf": "1", "origin": "http://gateway"}, ""),
    ],
)
def test_a_cookie_alone_changes_nothing(method: str, headers: dict[str, str], reason: str) -> None:
    """A request with a cookie that another site could have sent is marked as forged."""
    sent = request({"host": "gateway", "cookie": "gleaner_session=gs_c", **headers}, method)

    forgery = credentials({"auth_cookie": True}, sent).forgery
    assert reason in forgery if reason and forgery else not (reason or forgery)


@pytest.mark.anyio
async def test_work_ends_with_the_connection() -> None:
    """A wait is cancelled when its client leaves; work that ends first gives its result."""
    gone = asyncio.Event()

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def leave() -> None:
        gone.set()
        await asyncio.sleep(60)

    sent = Request({"type": "http"}, receive)
    assert await run_while_connected(sent, asyncio.sleep(0, "done")) == "done"
    with pytest.raises(ClientDisconnect):
        await run_while_connected(sent, leave())
