"""The port of probes: its answers, shared evaluations, and connections that never ask."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge

from jobs.observability import probes
from jobs.observability.probes import ProbeServer


@contextmanager
def serving(alive: probes.Check = lambda: None, ready: probes.Check = lambda: None) -> Iterator[str]:
    """Run a probe server; yield its URL."""
    registry = CollectorRegistry()
    Gauge("gleaner_answer", "of everything", registry=registry).set(42)
    server = ProbeServer("127.0.0.1", 0, registry, alive, ready)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.stop()


def raise_error() -> str | None:
    """Fail as a check with a bug."""
    raise KeyError("a text that must not be shown")


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/livez", 200, "ok\n"),
        ("GET", "/livez?verbose", 200, "ok\n"),
        ("HEAD", "/livez", 200, ""),
        ("GET", "/readyz", 503, "loading\n"),
        ("GET", "/", 404, "not found\n"),
        ("POST", "/livez", 405, "method not allowed\n"),
    ],
)
def test_answers(method: str, path: str, status: int, body: str) -> None:
    """A reason is 503 with its text; HEAD has no body."""
    with serving(ready=lambda: "loading") as url:
        response = httpx.request(method, url + path, trust_env=False)

    assert (response.status_code, response.text) == (status, body)


def test_metrics_are_those_of_the_registry() -> None:
    """In Prometheus' text format, which Content-Type names."""
    with serving() as url:
        response = httpx.get(f"{url}/metrics", trust_env=False)

    assert "gleaner_answer 42.0" in response.text
    assert response.headers["content-type"].startswith("text/plain")


def test_a_check_with_a_bug_is_a_failure_without_its_message() -> None:
    """The class is enough to find it in the log; the message may quote a text."""
    with serving(alive=raise_error) as url:
        response = httpx.get(f"{url}/livez", trust_env=False)

    assert (response.status_code, response.text) == (503, "failed: KeyError\n")


def test_requests_at_the_same_time_share_one_evaluation() -> None:
    """A check that hangs blocks one thread, however often it is asked, and no other path."""
    begun, may_end, calls = Event(), Event(), []

    def check() -> str | None:
        calls.append(1)
        begun.set()
        may_end.wait(10)
        return None

    answers: list[int] = []
    with serving(ready=check) as url:
        threads = [
            Thread(target=lambda: answers.append(httpx.get(f"{url}/readyz", trust_env=False).status_code))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        assert begun.wait(10)
        assert httpx.get(f"{url}/livez", trust_env=False).status_code == 200
        may_end.set()
        for thread in threads:
            thread.join(10)

    assert answers == [200] * 4
    assert len(calls) < 4  # late ones may have begun a second evaluation


def connect(url: str) -> socket.socket:
    """Return a connection that has not asked yet."""
    parsed = httpx.URL(url)
    return socket.create_connection((parsed.host, parsed.port or 0), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    """Return everything until the server closes the connection."""
    received = b""
    try:
        while data := connection.recv(4096):
            received += data
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize("head", [b"\r\n\r\n", b"GET\r\n\r\n", b"GET nothing HTTP/1.1\r\n\r\n"])
def test_no_request_is_a_bad_request(head: bytes) -> None:
    """A path begins with a slash."""
    with serving() as url, connect(url) as connection:
        connection.sendall(head)
        assert read_all(connection).startswith(b"HTTP/1.1 400 ")


def test_a_head_that_is_too_long_gets_no_answer() -> None:
    """The connection is closed instead of buffering it."""
    with serving() as url, connect(url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nx: " + b"a" * 20_000 + b"\r\n\r\n")
        assert not read_all(connection).startswith(b"HTTP/1.1 200")


def test_silent_connections_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest one without a request is closed when there are too many."""
    monkeypatch.setattr(probes, "MAX_CONNECTIONS", 2)
    with serving() as url:
        silent = [connect(url) for _ in range(2)]
        assert httpx.get(f"{url}/livez", trust_env=False).status_code == 200
        assert read_all(silent[0]) == b""
        for connection in silent:
            connection.close()


def test_a_silent_connection_is_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a request its time is short."""
    monkeypatch.setattr(probes, "HEAD_S", 0.05)
    with serving() as url, connect(url) as connection:
        assert read_all(connection) == b""


def test_a_taken_port_is_an_error_at_once() -> None:
    """And not in the thread, where nobody would see it."""
    always: Callable[[], str | None] = lambda: None  # noqa: E731
    with serving() as url, pytest.raises(OSError, match="in use"):
        ProbeServer("127.0.0.1", httpx.URL(url).port or 0, CollectorRegistry(), always, always)
