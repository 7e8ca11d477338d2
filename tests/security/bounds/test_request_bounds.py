"""Requests that a client may send and that once cost a gateway its memory or its time, against a real gateway."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from jobs import api_keys
from tests.support.processes.gateways import running_gateway
from tests.support.processes.harness import Child, wait_for
from tests.support.processes.watching import GatewayWatch
from tests.support.servers.redis_servers import RedisServer

pytestmark = pytest.mark.alone

JSON, LINES = "application/json", "application/x-ndjson"
HEAD = b'{"labels":["person"]}\n'
MOST_MIB = 256
"""Half of the memory that a gateway may have; one that does nothing has 90."""
SLOWEST_S = 1.0
"""Longest wait of others. The event loop is not held for a tenth of it; the machines of tests are busy."""


@pytest.fixture(scope="module")
def gateway(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Child, list[str]]]:
    """Run a gateway; yield it with the keys of twelve tenants."""
    redis_server.flush()
    folder = tmp_path_factory.mktemp("gateway")
    tenants = [api_keys.create_key(folder / "keys.json", tenant=f"t{n}", role="submitter").key for n in range(12)]
    with running_gateway(folder, redis_server.url(1), redis_server.url(0)) as (child, _):
        yield child, tenants
    redis_server.flush()


def post(
    gateway: Child,
    key: str,
    body: bytes,
    media_type: str = JSON,
    encoding: str = "identity",
    path: str = "/v1/jobs",
) -> httpx.Response:
    """Send a body."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": media_type, "Content-Encoding": encoding}
    with httpx.Client(trust_env=False, timeout=120) as client:
        return client.post(gateway.url + path, content=body, headers=headers)


def spaced(part: bytes, count: int) -> bytes:
    """Repeat a part of JSON with white space at random, so that it compresses less than 100:1."""
    return b"".join(part + space for space in random.Random(1).choices((b"", b" ", b"\n", b"\t", b"  "), k=count))


def options(part: bytes, size: int = 31_000_000) -> bytes:
    """Build a job whose options are a list that repeats `part`."""
    many = part * (size // len(part))
    return JOB + b'"options":[' + many + b"[]]}"


NESTED = b"[[[[]]],[[[]]]],"
JOB = b'{"labels":["p"],"documents":[{"text":"x"}],'
BODIES: dict[str, Callable[[], tuple[bytes, str, str]]] = {
    "lists in the head": lambda: (options(b"[],"), JSON, "identity"),
    "nested lists in the head": lambda: (options(NESTED), JSON, "identity"),
    "nested lists, compressed": lambda: (gzip.compress(options(spaced(NESTED, 1_700_000))), JSON, "gzip"),
    "objects in metadata": lambda: (
        JOB + b'"metadata":{"k":[' + b"{}," * 9_000_000 + b"{}]}}", JSON, "identity"
    ),
    "lists in a document": lambda: (
        b'{"labels":["p"],"documents":[{"text":"x","labels":[' + b"[]," * 9_000_000 + b"[]]}]}", JSON, "identity"
    ),
    "many documents": lambda: (b'{"labels":["p"],"documents":[' + b"{}," * 9_000_000 + b"{}]}", JSON, "identity"),
    "a list": lambda: (b"[" + b"[]," * 9_000_000 + b"[]]", JSON, "identity"),
    "objects in a line": lambda: (HEAD + b'{"text":"a","x":[' + b"{}," * 2_000_000 + b"{}]}\n", LINES, "identity"),
    "lists in the first line": lambda: (b'{"labels":[' + b"[]," * 2_000_000 + b"[]]}\n", LINES, "identity"),
    "blank lines": lambda: (HEAD + b'{"text":"a"}\n' + b"\n" * 8_000_000, LINES, "identity"),
    "blank lines, compressed": lambda: (
        gzip.compress(HEAD + b'{"text":"a"}\n' + b" \r\n" * 330_000), LINES, "gzip"
    ),
    "empty parts": lambda: (gzip.compress(b"{}") + gzip.compress(b"") * 200_000, JSON, "gzip"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BODIES))
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/extract"])
def test_no_body_fills_the_memory_or_stops_the_others(
    gateway: tuple[Child, list[str]], name: str, path: str
) -> None:
    """Refused with a code, soon, in little memory, while others are answered."""
    child, tenants = gateway
    body, media_type, encoding = BODIES[name]()
    if path == "/v1/extract" and media_type == LINES:
        pytest.skip("takes no lines")
    with GatewayWatch(child) as watch:
        began = time.monotonic()
        answer = post(child, tenants[0], body, media_type, encoding, path)
        took = time.monotonic() - began

    assert answer.status_code in (400, 413, 422), answer.text
    assert answer.json()["detail"]
    assert watch.peak_mib < MOST_MIB
    assert watch.slowest_s < SLOWEST_S
    assert took < 8  # a refusal that waits for the rest of the body takes ten


@pytest.mark.parametrize(("tenants_at_once", "last"), [(1, ""), (12, "😀")], ids=["one tenant", "twelve, emoji"])
def test_a_dozen_of_the_largest_requests_do_not_fill_the_memory(
    gateway: tuple[Child, list[str]], tenants_at_once: int, last: str
) -> None:
    """They take turns; those that wait too long may come again. One emoji makes a text four times larger."""
    child, tenants = gateway
    text = base64.b64encode(os.urandom(700_000)).decode()
    documents = [{"text": f"{text[n:]}{last}"} for n in range(33)]
    body = json.dumps({"labels": ["person"], "documents": documents}, ensure_ascii=False).encode()
    assert 30_000_000 < len(body) < 32 * 1024 * 1024

    with GatewayWatch(child) as watch, ThreadPoolExecutor(12) as pool:
        senders = [tenants[n % tenants_at_once] for n in range(12)]
        answers = list(pool.map(lambda key: post(child, key, body), senders))

    assert {answer.status_code for answer in answers} <= {202, 503}
    assert any(answer.status_code == 202 for answer in answers)
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers if answer.status_code == 503)
    assert watch.peak_mib < 1.5 * MOST_MIB


@pytest.mark.parametrize(
    ("media_type", "begin", "connections"),
    [
        (JSON, JOB + b'"options":"' + b"a" * 20_000_000, 12),
        (LINES, HEAD + b"a" * 5_000_000, 40),
    ],
    ids=["bodies", "lines"],
)
def test_a_tenant_that_sends_much_slowly_holds_up_itself_alone(
    gateway: tuple[Child, list[str]], media_type: str, begin: bytes, connections: int
) -> None:
    """Unfinished bodies fill their tenant's share of memory; another tenant's largest request is served."""
    child, tenants = gateway
    large = json.dumps({"labels": ["p"], "documents": [{"text": "a" * 1_000_000}] * 30}).encode()
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {tenants[0]}\r\n"
    head += f"Content-Type: {media_type}\r\nContent-Length: {31_000_000}\r\n\r\n"

    def send(slow: socket.socket) -> None:
        with contextlib.suppress(OSError):
            slow.sendall(head.encode() + begin)

    with contextlib.ExitStack() as stack, GatewayWatch(child) as watch:
        address = "127.0.0.1", int(child.url.rpartition(":")[2])
        opened = [stack.enter_context(socket.create_connection(address, timeout=2)) for _ in range(connections)]
        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(send, opened))
        assert post(child, tenants[1], large).status_code == 202
    assert watch.peak_mib < MOST_MIB


def test_memory_is_given_back(gateway: tuple[Child, list[str]]) -> None:
    """Whatever was refused or went away, the largest request is served afterwards."""
    child, tenants = gateway
    large = json.dumps({"labels": ["p"], "documents": [{"text": "a" * 1_000_000}] * 31}).encode()

    wait_for(lambda: post(child, tenants[0], large).status_code == 202, 30, "the largest request is accepted")
