"""The parent of several gateway processes: when it serves, when it gives up, and its sockets."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.http.background_services import STALLED_S
from gateway.http.processes import ProcessSupervisor, open_listeners
from gateway.settings import GatewaySettings
from jobs.observability.metrics import ProcessesMetrics
from jobs.process.supervisor import Child


class Parent:
    """A supervisor on one listening socket, whose children are made by hand."""

    def __init__(self, folder: Path) -> None:
        self.registry = CollectorRegistry()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.supervisor = ProcessSupervisor(
            GatewaySettings(auth="off"), [self.listener], folder, ProcessesMetrics(self.registry)
        )

    def add_child(self, name: str) -> Child:
        """Add a child that has not sent a heartbeat."""
        process: Any = SimpleNamespace(pid=100 + int(name), returncode=1)
        child = Child(name, process, None, None, started_at=0.0)  # type: ignore[arg-type]
        self.supervisor.children[name] = child
        return child

    def beat(self, child: Child) -> None:
        """Let a child send a heartbeat."""
        child.data_at = 1.0
        self.supervisor.receive_data(child, b".")

    def read_metric(self, name: str, **labels: str) -> float | None:
        """Return the value of a metric."""
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def parent(tmp_path: Path) -> Any:
    """Yield a supervisor; its socket is closed at the end."""
    parent = Parent(tmp_path)
    yield parent
    parent.listener.close()


def test_it_serves_as_soon_as_one_child_does(parent: Parent) -> None:
    """All accept from the same sockets."""
    first, _ = parent.add_child("0"), parent.add_child("1")
    assert parent.supervisor.pids() == [100, 101]
    assert not parent.supervisor.is_serving()
    parent.beat(first)
    assert parent.supervisor.is_serving()
    assert parent.read_metric("gleaner_gateway_processes") == 1
    parent.supervisor.begin_shutdown()
    assert not parent.supervisor.is_serving()


def test_a_child_that_cannot_start_ends_the_gateway(parent: Parent) -> None:
    """A restart would not help, and the child has logged why."""
    parent.supervisor.note_end(parent.add_child("0"))
    assert parent.supervisor.stopping.is_set()


@pytest.mark.parametrize(("killed", "reason"), [(True, "stalled"), (False, "died")])
def test_a_child_that_served_is_replaced_and_counted(parent: Parent, killed: bool, reason: str) -> None:
    """The metric says whether it was killed because it was silent."""
    child = parent.add_child("0")
    parent.beat(child)
    child.killed = killed
    parent.supervisor.note_end(child)
    assert not parent.supervisor.stopping.is_set()
    assert parent.read_metric("gleaner_gateway_processes_ended_total", reason=reason) == 1


def test_no_connection_is_queued_during_the_shutdown(parent: Parent) -> None:
    """The sockets are closed first; an end of a child is then expected."""
    child = parent.add_child("0")
    parent.beat(child)
    parent.supervisor.handle_signal(signal.SIGTERM)
    assert parent.listener.fileno() == -1
    parent.supervisor.note_end(child)
    assert parent.read_metric("gleaner_gateway_processes_ended_total", reason="died") == 0


def test_a_second_sigint_ends_the_drain(parent: Parent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second SIGTERM does not."""
    sent: list[tuple[int, tuple[str, ...]]] = []
    monkeypatch.setattr(parent.supervisor, "signal_children", lambda number, names: sent.append((number, names)))
    parent.add_child("0")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        parent.supervisor.handle_signal(number)
    assert sent == [(signal.SIGINT, ("0",))]


def test_a_parent_that_checks_nothing_must_be_restarted(parent: Parent) -> None:
    """It restarts stalled children, but nobody restarts it."""
    assert parent.supervisor.stall_reason() is None
    parent.supervisor.checked_at -= STALLED_S + 1
    assert "not been checked for 31 s" in (parent.supervisor.stall_reason() or "")


def test_there_is_one_socket_for_each_address() -> None:
    """A port that is taken is an error of the start."""
    [listener] = open_listeners("127.0.0.1", 0)
    with listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(OSError, match="in use"):
            open_listeners("127.0.0.1", port)
