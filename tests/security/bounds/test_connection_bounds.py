from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from jobs import api_keys
from jobs.observability.probes import MAX_CONNECTIONS, ProbeServer
from tests.security.bounds.test_access_bounds import JOB, bearer
from tests.support.processes.gateways import running_gateway
from tests.support.processes.harness import wait_for


def test_streams_are_bounded_by_key_and_tenant(tmp_path: Path, ledger_url: str, broker_url: str) -> None:
    """A stream too many gets 429; a submission loses its wait, not the job; other keys are unaffected."""
    path = tmp_path / "keys.json"
    bounds = {"GLEANER_KEY_STREAMS": "3", "GLEANER_TENANT_STREAMS": "5"}
    with (
        running_gateway(tmp_path, ledger_url, broker_url, **bounds) as (gateway, admin),
        httpx.Client(base_url=gateway.url, timeout=30) as client,
        ExitStack() as streams,
    ):
        second = api_keys.create_key(path, tenant="acme", role="viewer").key
        other = api_keys.create_key(path, tenant="umbrella", role="admin").key
        wait_for(lambda: client.get("/v1/limits", headers=bearer(other)).status_code == 200, 5, "the keys")
        jobs = {key: client.post("/v1/jobs", json=JOB, headers=bearer(key)).json()["id"] for key in (admin, other)}

        begun: list[Iterator[str]] = []

        def opened(key: str) -> ExitStack:
            connection = streams.enter_context(ExitStack())
            job = jobs[other if key == other else admin]
            stream = httpx.stream("GET", f"{gateway.url}/v1/jobs/{job}/events", headers=bearer(key), timeout=30)
            answer = connection.enter_context(stream)
            assert answer.status_code == 200
            lines = answer.iter_lines()
            next(lines)
            begun.append(lines)  # which would close the stream when it is forgotten
            return connection

        def status(key: str, path: str) -> int:
            answer = client.get(f"/v1/jobs/{jobs[admin]}{path}", headers=bearer(key))
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.json()["code"] == "rate_limited"
            return answer.status_code

        [first, *_] = [opened(admin) for _ in range(3)]
        assert [status(admin, path) for path in ("/events", "?wait=5", "", "?wait=0")] == [429, 429, 200, 200]
        began = time.monotonic()
        response = client.post("/v1/jobs", json=JOB, headers={**bearer(admin), "Prefer": "wait=20"})
        assert (response.status_code, "preference-applied" in response.headers) == (202, False)
        assert time.monotonic() - began < 10
        opened(second)
        opened(second)
        assert [status(second, path) for path in ("/events", "?wait=5")] == [429, 429]  # the tenant's five
        opened(other)
        first.close()
        wait_for(lambda: status(second, "?wait=1") == 200, 10, "the place of the stream that was closed")


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """Let hanging checks go at the end."""
    event = threading.Event()
    yield event
    event.set()


def test_half_requests_hold_no_threads_of_the_probes(hang: threading.Event) -> None:
    """Three hundred of them, and checks that hang: metrics and liveness are answered, with a handful of threads."""

    def ready() -> str | None:
        hang.wait(30)
        return None

    server = ProbeServer("127.0.0.1", 0, CollectorRegistry(), lambda: None, ready)
    server.start()
    before = threading.active_count()
    try:
        with ExitStack() as connections:

            def connect(said: bytes) -> socket.socket:
                connection = connections.enter_context(
                    closing(socket.create_connection(("127.0.0.1", server.port), 5))
                )
                connection.sendall(said)
                return connection

            first, *_ = [connect(b"GET /metrics HTTP/1.1\r\nHost: ") for _ in range(300)]
            for _ in range(30):
                connect(b"GET /readyz HTTP/1.1\r\n\r\n")
            for path in ("/metrics", "/livez", "/metrics"):
                answer = httpx.get(f"http://127.0.0.1:{server.port}{path}", timeout=5, trust_env=False)
                assert answer.status_code == 200
            assert threading.active_count() - before <= 3
            assert first.recv(1) == b""  # the oldest made room
            assert len(server._silent) + len(server._asking) <= MAX_CONNECTIONS
            hang.set()
            answer = httpx.get(f"http://127.0.0.1:{server.port}/readyz", timeout=5, trust_env=False)
            assert (answer.status_code, answer.text) == (200, "ok\n")
    finally:
        server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{server.port}/livez", trust_env=False)


def test_a_slow_head_and_a_huge_one_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever trickles in: the head has its time, and 8 KiB."""
    monkeypatch.setattr("jobs.observability.probes.HEAD_S", 0.5)
    server = ProbeServer("127.0.0.1", 0, CollectorRegistry(), lambda: None, lambda: "not yet")
    server.start()
    try:
        for said in (b"GET /livez HTTP/1.1\r\n", b"GET /" + b"x" * 20_000):
            with closing(socket.create_connection(("127.0.0.1", server.port), 5)) as connection:
                connection.sendall(said)
                with suppress(ConnectionError):  # of the unread part
                    assert connection.recv(10) == b""
        for method, path, status in (("GET", "/readyz?x=1", 503), ("POST", "/livez", 405), ("GET", "/x", 404)):
            answer = httpx.request(method, f"http://127.0.0.1:{server.port}{path}", trust_env=False)
            assert answer.status_code == status
    finally:
        server.stop()
