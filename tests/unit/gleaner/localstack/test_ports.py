"""Loopback ports: free ones differ, and one in use is named."""

from __future__ import annotations

import socket

import pytest

from gleaner.localstack import ports
from gleaner.localstack.errors import PortInUse


def test_a_port_in_use_is_named() -> None:
    """The error names the port, and a way out."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} is in use.*--port {port + 1}"):
            ports.require_free(port)
    ports.require_free(port)


def test_free_ports_differ() -> None:
    """No port is handed out twice."""
    assert len(set(ports.find_free(20))) == 20
