"""Loopback ports: find free ones for the children, and check the one for the gateway."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

from gleaner.localstack.errors import PortInUse

LOOPBACK = "127.0.0.1"


def find_free(count: int) -> list[int]:
    """Return `count` different ports on which no process listens now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in sockets]


def require_free(port: int) -> None:
    """Check that the gateway can listen on the port.

    Raises:
        PortInUse: another process listens there, or the system forbids it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does: TIME_WAIT does not block
        try:
            probe.bind((LOOPBACK, port))
        except OSError as failure:
            if failure.errno == errno.EADDRINUSE:
                raise PortInUse(
                    f"port {port} is in use; stop the process that uses it, or choose another: --port {port + 1}"
                ) from None
            raise PortInUse(f"port {port} cannot be used: {failure.strerror}") from None
