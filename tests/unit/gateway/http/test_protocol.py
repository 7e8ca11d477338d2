"""Limits of a connection, however its bytes arrive."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from gateway.http import protocol as module
from gateway.http.protocol import MAX_HEAD_BYTES, MAX_HEADERS, MAX_PIPELINED, MAX_URL_BYTES, make_protocol
from tests.support.fakes.awaiting import until

pytestmark = pytest.mark.anyio

GET = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST /v1/jobs HTTP/1.1\r\nhost: a\r\n"


class FakeTransport(asyncio.Transport):
    """A connection whose client sees what was written, and whether it was closed or reset."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: asyncio.Protocol | None = None
        self.written = b""
        self.closed = ""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return nothing: the connection has no socket."""
        return default

    def write(self, data: Any) -> None:
        """Remember the bytes."""
        self.written += data

    def is_closing(self) -> bool:
        """Return whether it was closed or reset."""
        return bool(self.closed)

    def close(self) -> None:
        """Close it."""
        self._end("closed")

    def abort(self) -> None:
        """Reset it."""
        self._end("aborted")

    def _end(self, kind: str) -> None:
        if not self.closed and self.protocol is not None:
            self.closed = kind
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self) -> None:
        """Do nothing."""


class Client:
    """Connection to a server whose app reads each body and then responds."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.transport = FakeTransport()
        self.protocol = server.protocol(config=server.config, server_state=server.state, app_state={})
        self.transport.protocol = self.protocol
        self.protocol.connection_made(self.transport)

    def send(self, *chunks: bytes) -> bytes:
        """Send bytes as they would arrive; return the status line of what was written at once."""
        for chunk in chunks:
            if not self.transport.closed:
                self.protocol.data_received(chunk)
        return self.transport.written.partition(b"\r\n")[0]


class Server:
    """A protocol with limits, and the requests that its app got."""

    def __init__(self, head_s: float = 60, write_s: float = 60, connections: int = 100) -> None:
        self.bodies: list[bytes] = []
        self.blocked = asyncio.Event()
        self.blocked.set()
        self.config = uvicorn.Config(self._respond, lifespan="off", log_config=None, interface="asgi3")
        self.config.load()
        self.state = ServerState()
        self.protocol = make_protocol(head_s, write_s, connections)

    async def _respond(self, scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        await self.blocked.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def chunk_body(*parts: bytes) -> bytes:
    """Return a body in the chunked encoding."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


async def test_a_request_is_served_and_the_connection_becomes_idle() -> None:
    """An idle connection may be closed for others."""
    server = Server()
    client = Client(server)
    assert server.protocol.idle == {client.protocol: None}
    client.send(GET)
    assert server.protocol.idle == {}
    await until(lambda: client.transport.written)
    assert client.transport.written.startswith(b"HTTP/1.1 204")
    assert server.protocol.idle == {client.protocol: None}
    assert client.protocol._head_timer is None


@settings(max_examples=25)
@given(st.lists(st.integers(0, 10_000), max_size=8))
def test_a_request_may_arrive_in_any_parts(positions: list[int]) -> None:
    """A chunked body with a trailer is the same body, whatever the packets are."""
    parts = [b"a" * 10, b"b" * 3000, b"c"]
    body = chunk_body(*parts).removesuffix(b"\r\n") + b"x-trailer: 1\r\n\r\n"
    data = POST + b"transfer-encoding: chunked\r\n\r\n" + body
    bounds = [0, *sorted(position % len(data) for position in positions), len(data)]
    packets = [data[start:end] for start, end in itertools.pairwise(bounds) if start < end]

    async def run() -> list[bytes]:
        server = Server()
        client = Client(server)
        client.send(*packets)
        await until(lambda: client.transport.written or client.transport.closed)
        client.protocol.connection_lost(None)
        return server.bodies

    assert asyncio.run(run()) == [b"".join(parts)]


HEADERS = b"".join(b"h%d: 1\r\n" % n for n in range(MAX_HEADERS))


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * MAX_URL_BYTES + b" HTTP/1.1\r\n\r\n", b"414 URI Too Long"),
        (POST + b"x: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n", b"431 Request Header Fields Too Large"),
        (POST + HEADERS + b"\r\n", b"431 Request Header Fields Too Large"),
    ],
)
@pytest.mark.parametrize("size", [1000, 1_000_000])
async def test_a_head_that_is_too_large_is_refused(data: bytes, status: bytes, size: int) -> None:
    """It may come at once or in parts; the app never sees it."""
    server = Server()
    client = Client(server)
    got = client.send(*(data[at : at + size] for at in range(0, len(data), size)))
    assert got == b"HTTP/1.1 " + status
    assert client.transport.closed == "closed"
    client.protocol.data_received(GET)  # as it may still arrive
    await asyncio.sleep(0)
    assert server.bodies == []


async def test_a_head_that_never_ends_is_refused_before_it_fills_the_memory() -> None:
    """A field is buffered by the parser until its end."""
    client = Client(Server())
    got = client.send(POST + b"x: ", *[b"a" * 4096] * 40)
    assert got == b"HTTP/1.1 431 Request Header Fields Too Large"


@pytest.mark.parametrize(
    ("begun", "status", "closed"),
    [(b"", b"", "aborted"), (b"GET / HT", b"HTTP/1.1 408 Request Timeout", "closed")],
)
async def test_a_head_that_does_not_come_in_time_ends_the_connection(
    begun: bytes, status: bytes, closed: str
) -> None:
    """Only a client that has begun a request gets a response."""
    client = Client(Server(head_s=0.01))
    client.send(*filter(None, [begun]))
    await until(lambda: client.transport.closed)
    assert (client.transport.written.partition(b"\r\n")[0], client.transport.closed) == (status, closed)


async def test_a_body_of_crumbs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chunk costs work, however small it is; so does framing without a body."""
    monkeypatch.setattr(module, "_FREE_CHUNKS", 10)

    def end_after(*packets: bytes) -> str:
        client = Client(Server())
        client.send(POST + b"transfer-encoding: chunked\r\n\r\n", *packets)
        return client.transport.closed

    extensions = b"1;" + b"x" * 4000 + b"\r\na\r\n"
    assert [end_after(chunk_body(*[b"a"] * count)) for count in (10, 11)] == ["", "aborted"]
    assert [end_after(*[extensions] * count) for count in (9, 20)] == ["", "aborted"]


async def test_pipelined_requests_are_bounded() -> None:
    """They wait for the response to the first one."""
    server = Server()
    server.blocked.clear()
    client = Client(server)
    client.send(GET, *[GET] * MAX_PIPELINED)
    assert not client.transport.closed
    client.send(GET)
    assert client.transport.closed == "aborted"


async def test_the_longest_idle_connection_makes_room_for_a_new_one() -> None:
    """A connection with a request in progress stays."""
    server = Server(connections=2)
    server.blocked.clear()
    busy, idle = Client(server), Client(server)
    busy.send(GET)
    newest = Client(server)
    assert (busy.transport.closed, idle.transport.closed, newest.transport.closed) == ("", "aborted", "")


async def test_a_client_that_does_not_read_is_cut() -> None:
    """A client that reads again in time is not."""
    server = Server(write_s=0.01)
    slow, quick = Client(server), Client(server)
    for client in (slow, quick):
        client.send(GET)
        client.protocol.pause_writing()
    quick.protocol.resume_writing()
    await until(lambda: slow.transport.closed)
    assert (slow.transport.closed, quick.transport.closed) == ("aborted", "")


async def test_a_lost_connection_leaves_no_timer() -> None:
    """Nor does it count as idle."""
    server = Server()
    client = Client(server)
    client.protocol.pause_writing()
    client.protocol.connection_lost(None)
    assert client.protocol._head_timer is None
    assert client.protocol._write_timer is None
    assert server.protocol.idle == {}
