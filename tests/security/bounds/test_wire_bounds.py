"""Bytes on a connection that carry no request worth its cost, against a real gateway. No key is needed for them."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import pytest

from tests.support.processes.gateways import running_gateway
from tests.support.processes.harness import Child
from tests.support.processes.watching import GatewayWatch
from tests.support.servers.redis_servers import RedisServer

pytestmark = pytest.mark.alone

MORE_MIB = 40
"""How much more memory a connection may make a gateway need for a while."""
GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n"
POST = (
    b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nX-API-Key: %b\r\n"
    b"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
)


@pytest.fixture(scope="module")
def gateway(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Child, str]]:
    """Run a gateway; yield it with a key."""
    redis_server.flush()
    with running_gateway(tmp_path_factory.mktemp("gateway"), redis_server.url(1), redis_server.url(0)) as started:
        yield started


def exchange(gateway: Child, parts: Iterable[bytes], within_s: float = 8) -> tuple[bytes, int]:
    """Send parts until the other side is done with us; return its first bytes, and how many of ours it took."""
    sent, answer, end = 0, b"", time.monotonic() + within_s
    with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2])), timeout=2) as connection:
        with contextlib.suppress(OSError):
            for part in parts:
                connection.sendall(part)
                sent += len(part)
                if time.monotonic() > end:
                    break
        with contextlib.suppress(OSError):
            answer = connection.recv(1000)
    return answer, sent


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (GET + b"X: " + b"y" * 70_000 + b"\r\n\r\n", b"431"),
        (GET + b"X: y\r\n" * 300 + b"\r\n", b"431"),
        (GET.replace(b"livez", b"livez?" + b"a&" * 9_000) + b"\r\n", b"414"),
        (GET.replace(b"livez", b"a" * 17_000) + b"\r\n", b"414"),
        (GET + b"X: " + b"y" * 50_000 + b"\r\n\r\n", b"200"),
        (GET + b"X: y\r\n" * 200 + b"\r\n", b"200"),
    ],
    ids=["size", "fields", "query", "path", "large", "many fields"],
)
def test_a_head_that_is_complete_at_once_is_bounded_too(
    gateway: tuple[Child, str], head: bytes, status: bytes
) -> None:
    """In size, number of fields, and length of its URL."""
    answer, _ = exchange(gateway[0], [head])

    assert answer.split(b" ")[1] == status


FLOODS: dict[str, tuple[bytes, bytes]] = {
    "trailers": (b"2\r\n{}\r\n0\r\n", b"x-trailer: 0123456789\r\n" * 5000),
    "one trailer": (b"2\r\n{}\r\n0\r\nx-trailer: ", b"y" * 100_000),
    "a chunk's extension": (b"2;a=", b"y" * 100_000),
    "chunks of a byte": (b"", b"1\r\n \r\n" * 20_000),
    "chunks with extensions": (b"", b"1;a=0123456789\r\n \r\n" * 5000),
}


@pytest.mark.parametrize("name", list(FLOODS))
def test_what_carries_a_body_is_bounded(gateway: tuple[Child, str], name: str) -> None:
    """Chunks, their extensions and trailers without end: the connection is closed, and nothing of them is kept."""
    child, key = gateway
    begin, part = FLOODS[name]
    head = POST % key.encode()
    with GatewayWatch(child) as watch:
        time.sleep(0.1)
        before = watch.peak_mib
        answer, sent = exchange(child, [head + begin, *repeat(part, 1000)])

    assert sent < 20_000_000
    assert not answer.startswith(b"HTTP/1.1 2")
    assert watch.peak_mib < before + MORE_MIB
    assert watch.slowest_s < 1.5


def test_requests_that_are_sent_before_answers_come_are_few(gateway: tuple[Child, str]) -> None:
    """A packet of thousands of requests makes no thousands that wait; a few are answered in turn."""
    child, _ = gateway
    with GatewayWatch(child) as watch:
        time.sleep(0.1)
        before = watch.peak_mib
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda _: exchange(child, [(GET + b"\r\n") * 20_000] * 3), range(20)))
        answer, _ = exchange(child, [(GET + b"\r\n") * 20])

    assert watch.peak_mib < before + MORE_MIB
    assert watch.slowest_s < 1.5
    assert answer.startswith(b"HTTP/1.1 200")
