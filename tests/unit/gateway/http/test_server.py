"""The server of one process: open files, heartbeats of the event loop, and the first signal."""

from __future__ import annotations

import asyncio
import resource
import signal
import time
from types import SimpleNamespace

import pytest
from fastapi import FastAPI

from gateway.http import server as server_module
from gateway.http.background_services import STALLED_S
from gateway.http.server import Server, _raise_connection_limit
from gateway.settings import GatewaySettings

INFINITE = resource.RLIM_INFINITY


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """Return a server that does not listen."""
    monkeypatch.setattr(server_module, "_raise_connection_limit", lambda: 100)
    return Server(GatewaySettings(auth="off"), FastAPI())


@pytest.mark.parametrize(
    ("limits", "raised", "connections"),
    [
        ((1024, 4096), (4096, 4096), 4096 - 256),
        ((1024, 1_000_000), (65_536, 1_000_000), 65_536 - 256),
        ((1024, INFINITE), (65_536, INFINITE), 65_536 - 256),
        ((100_000, INFINITE), None, 100_000 - 256),
        ((INFINITE, INFINITE), None, 65_536 - 256),
        ((64, 64), None, 1),
    ],
)
def test_open_files_are_raised_as_far_as_the_system_allows(
    limits: tuple[int, int], raised: tuple[int, int] | None, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some are reserved for Redis and files; the rest is for clients."""
    changes: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: changes.append(new))
    assert _raise_connection_limit() == connections
    assert changes == ([] if raised is None else [raised])


def test_a_loop_that_stands_still_is_a_reason_to_restart(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tick of the event loop starts the time again."""
    assert server.stall_reason() is None
    now = time.monotonic() + STALLED_S + 5
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert "not turned for 35 s" in (server.stall_reason() or "")
    asyncio.run(server.on_tick(1))
    assert server.stall_reason() is None


def test_it_serves_from_its_start_to_the_first_signal(server: Server) -> None:
    """A second SIGTERM changes nothing; a second SIGINT ends the drain."""
    assert not server.is_serving()
    server.started = True
    assert server.is_serving()
    server.handle_exit(signal.SIGTERM, None)
    assert not server.is_serving()
    server.handle_exit(signal.SIGTERM, None)
    assert not server.force_exit
    server.handle_exit(signal.SIGINT, None)
    assert server.force_exit


def test_the_first_signal_ends_long_polls(server: Server) -> None:
    """They are drained on the event loop, not in the signal handler."""
    drained: list[str] = []
    server._app.state.services = SimpleNamespace(waiter=SimpleNamespace(drain=lambda: drained.append("waiter")))
    loop = asyncio.new_event_loop()
    server._loop = loop
    server.handle_exit(signal.SIGTERM, None)
    assert drained == []
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert drained == ["waiter"]
