"""Loopback ports: free ones for the children, and whether a wanted one is taken."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

from gleaner.localstack.errors import PortInUse

LOOPBACK = "127.0.0.1"


def free(count: int) -> list[int]:
    """Different ports that nothing listens on now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]


def require(port: int) -> None:
    """Check that the gateway can listen.

    Raises:
        PortInUse: something else does, or the system forbids it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does: TIME_WAIT is no user
        try:
            probe.bind((LOOPBACK, port))
        except OSError as failure:
            if failure.errno == errno.EADDRINUSE:
                raise PortInUse(
                    f"port {port} is in use; stop what listens there, or choose another, as --port {port + 1}"
                ) from None
            raise PortInUse(f"port {port} cannot be used: {failure.strerror}") from None
