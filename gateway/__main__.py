"""`python -m gateway`: reads the settings, serves the API, and metrics and probes on the second port."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import ssl
import sys
import time
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from gateway.app import create_app
from gateway.settings import GatewaySettings
from gateway.wire import with_limits
from jobs import ledger, telemetry
from jobs.keys import KeysError
from jobs.ledger import Ledger, LedgerUnavailableError
from jobs.metrics import process
from jobs.probes import ProbeServer
from jobs.stores import connect

log = logging.getLogger(__name__)

_MOST_FILES = 65_536
_OWN_FILES = 256
"""Kept free of clients: connections to the store, files, what uvicorn accepts in one go."""

STALLED_S = 30.0
"""An event loop that stood still for so long will not come back."""


class _Server(uvicorn.Server):
    """Ends long-polls as soon as the process is told to stop, so that they do not hold up its shutdown."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticked = time.monotonic()

    async def startup(self, *args: Any, **kwargs: Any) -> None:
        """Listen, and say where: the port may have been chosen by the system."""
        self._loop = asyncio.get_running_loop()
        await super().startup(*args, **kwargs)
        gc.collect()
        gc.freeze()  # what is there now stays: to look through it again and again costs a tenth of all time
        addresses = [socket.getsockname() for server in self.servers for socket in server.sockets]
        log.info("gateway.listening", extra={"addresses": addresses})

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: the event loop turns."""
        self._ticked = time.monotonic()
        return await super().on_tick(counter)

    def stalled(self) -> str | None:
        """Why the process should be started anew, or None."""
        silent = time.monotonic() - self._ticked
        return f"the event loop has not turned for {silent:.0f} s" if silent > STALLED_S else None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop taking requests, and let those that wait be answered now; a second SIGINT stops at once.

        uvicorn's own would send itself the signal again in the end, so that the process dies of it; a drained
        gateway exits 0.
        """
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
        services = getattr(self._app.state, "services", None)
        if self._loop is not None and services is not None:
            self._loop.call_soon_threadsafe(services.waiter.drain)


def main() -> int:
    """Serve until SIGTERM or SIGINT; 0 after a clean stop."""
    settings = GatewaySettings()
    telemetry.configure(settings, "gateway")
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLogger().level))
    registry = CollectorRegistry()
    process(registry)
    try:
        app = create_app(settings, registry)
    except KeysError as error:
        log.error("gateway.no_keys", extra={"reason": str(error)})
        return 1
    server = _Server(_config(settings, app), app)
    probes = _probes(settings, registry, server)
    probes.start()
    try:
        server.run()
    finally:
        probes.stop()
    return 0 if server.started else 1


def _config(settings: GatewaySettings, app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=with_limits(settings.header_timeout_s, settings.write_timeout_s, _connections()),
        ws="none",
        lifespan="on",
        log_config=None,  # everything goes through jobs.telemetry
        access_log=False,  # gateway.edge logs each request by its route, never by its path
        server_header=False,
        proxy_headers=False,  # gateway.app trusts the proxies of the settings, and no others
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
        ssl_ca_certs=settings.tls_client_ca_file,
        ssl_cert_reqs=ssl.CERT_REQUIRED if settings.tls_client_ca_file else ssl.CERT_NONE,
        timeout_graceful_shutdown=int(settings.shutdown_grace_s),
    )


def _connections() -> int:
    """As many connections as the system lets the process have, less what it needs for itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= most:
        most = _MOST_FILES if soft == resource.RLIM_INFINITY else soft
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(1, most - _OWN_FILES)


def _probes(settings: GatewaySettings, registry: CollectorRegistry, server: _Server) -> ProbeServer:
    store = Ledger(connect(settings.redis_url, settings.store_timeout_s, "gleaner-gateway-probes"))

    def ready() -> str | None:
        if not server.started or server.should_exit:
            return "the API is not served"
        try:
            store.run(ledger.ping_write())
        except LedgerUnavailableError as error:
            return f"the job store cannot be written: {error}"
        return None

    return ProbeServer(settings.metrics_host, settings.metrics_port, registry, server.stalled, ready)


if __name__ == "__main__":
    sys.exit(main())
