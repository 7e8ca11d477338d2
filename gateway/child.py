"""One of several gateway processes, started by `gateway.http.processes`, on the sockets of its parent."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from threading import Thread

from prometheus_client import CollectorRegistry

from gateway.app import create_app
from gateway.http.processes import HEARTBEAT_S, OVERDUE_S, ChildConfig
from gateway.http.server import Server
from gateway.settings import GatewaySettings
from jobs.api_keys import KeysError
from jobs.observability import logs, multiprocess
from jobs.observability.metrics import GatewayMetrics

log = logging.getLogger(__name__)


def main(config: ChildConfig) -> int:
    """Serve until SIGTERM, SIGINT or the parent's death; return 0 after a clean stop."""
    settings = GatewaySettings()
    logs.configure_logging(settings, "gateway", place=config.number)
    multiprocess.store_in_files(config.folder, str(config.number))
    heartbeats = socket.socket(fileno=config.heartbeat_fd)

    async def send_heartbeat() -> None:
        """Send a heartbeat to the parent; the first one means that the API is served."""
        with contextlib.suppress(OSError):
            heartbeats.send(b".", socket.MSG_DONTWAIT)

    try:
        app = create_app(settings, GatewayMetrics(CollectorRegistry()))
    except KeysError as error:
        log.error("gateway.no_keys", extra={"reason": str(error)})
        return 1
    server = Server(settings, app, callback_notify=send_heartbeat, timeout_notify=HEARTBEAT_S)
    overdue_s = settings.shutdown_grace_s + OVERDUE_S
    watchdog = Thread(
        target=_exit_with_parent, args=(heartbeats, config.folder, overdue_s), name="parent", daemon=True
    )
    watchdog.start()
    server.run([socket.socket(fileno=number) for number in config.listener_fds])
    return 0 if server.started else 1


def _exit_with_parent(parent_end: socket.socket, folder: Path, overdue_s: float) -> None:
    parent_end.recv(1)  # the parent sends nothing: this returns when its end closes, however it died
    log.warning("gateway.parent_gone")
    shutil.rmtree(folder, ignore_errors=True)  # in the parent's place; open files stay usable
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(overdue_s)
    os._exit(1)  # no other process would end it


if __name__ == "__main__":
    sys.exit(main(ChildConfig.model_validate_json(sys.argv[1])))
