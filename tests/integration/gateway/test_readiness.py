"""Readiness while Redis fails: all gateways stay in their Service, and one that is cut off alone leaves it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from gateway.http.readiness import SILENCE_S, LedgerCheck, State
from jobs.ledger import LedgerUnavailableError
from tests.support.processes.harness import ServiceHarness, wait_for

BODY = {"labels": ["person"], "documents": [{"text": "Ada"}]}


@pytest.fixture
def harness() -> Iterator[ServiceHarness]:
    """Run a server that tests stop."""
    running = ServiceHarness()
    try:
        yield running
    finally:
        running.close()


class Clock:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


@contextmanager
def _silent(port: int) -> Iterator[None]:
    """Answer no connection to a port: its queue is full, so the kernel drops each attempt."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(0)
        stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
        yield


def test_with_redis_away_a_gateway_stays_and_answers_the_documented_503(harness: ServiceHarness) -> None:
    """Clients get storage_unavailable with Retry-After; a gateway that starts meanwhile waits outside."""
    gateway = harness.gateway().wait_ready()
    harness.server.kill()
    late = harness.gateway()
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=10) as client:
        refused = client.post("/v1/jobs", json=BODY)
        assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
        assert int(refused.headers["Retry-After"]) >= 1
        assert gateway.probe("/readyz") == (200, "ok")
        wait_for(lambda: client.get("/readyz").json() == {"status": "degraded"}, 5, "it says that it is degraded")
        assert client.get("/docs").status_code == 200
        wait_for(lambda: late.probe("/readyz")[0] == 503, 20, "a gateway without a first write is not ready")
        assert late.probe("/livez") == (200, "ok")

        harness.server.start()
        wait_for(late.ready, 10, "the late gateway is ready")
        wait_for(lambda: client.get("/readyz").json() == {"status": "ok"}, 5, "it is well again")
        wait_for(lambda: client.post("/v1/jobs", json=BODY).status_code == 202, 5, "jobs are accepted again")


def test_silence_that_lasts_makes_a_gateway_leave(harness: ServiceHarness) -> None:
    """A refused connection is an outage of Redis, however long; silence is one until `SILENCE_S` have passed."""
    clock, server = Clock(), harness.server
    check = LedgerCheck.connect(server.tcp(1), 0.1, clock)
    assert check.run() is State.OK
    server.kill()
    clock.now += 10 * SILENCE_S
    assert check.run() is State.DEGRADED
    with _silent(server.port):
        clock.now += SILENCE_S
        assert check.run() is State.DEGRADED
        clock.now += 1
        with pytest.raises(LedgerUnavailableError):
            check.run()
    server.start()
    assert check.run() is State.OK


def test_a_gateway_whose_login_is_refused_leaves(harness: ServiceHarness) -> None:
    """Redis answers, but not to this gateway: its password is old."""
    clock, server = Clock(), harness.server
    with server.client() as client:
        client.acl_setuser("gateway", enabled=True, passwords=["+old"], keys=["*"], commands=["+@all"])
    check = LedgerCheck.connect(
        # pragma: allowlist nextline secret
        f"redis://gateway:old@127.0.0.1:{server.port}/1",
        1.0,
        clock,
    )  # pragma: allowlist secret
    assert check.run() is State.OK
    with server.client() as client:
        client.acl_setuser("gateway", passwords=["-old", "+new"])
        client.client_kill_filter(user="gateway")
    assert check.run() is State.DEGRADED
    clock.now += SILENCE_S + 1
    with pytest.raises(LedgerUnavailableError):
        check.run()


def test_a_server_that_refuses_writes_is_degraded(harness: ServiceHarness) -> None:
    """A full or read-only Redis is the same for every gateway."""
    check = LedgerCheck.connect(harness.server.url(1), 1.0)
    assert check.run() is State.OK
    with harness.server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
    assert check.run() is State.DEGRADED
