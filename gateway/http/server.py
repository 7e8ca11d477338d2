"""The HTTP server of one process: uvicorn with this service's settings, limits and way to stop."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import ssl
import time
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from gateway.http.background_services import STALLED_S
from gateway.http.protocol import make_protocol
from gateway.settings import GatewaySettings
from jobs.process import memory
from jobs.process.cpu import share_interpreter

log = logging.getLogger(__name__)

_MOST_FILES = 65_536
_OWN_FILES = 256
"""Kept free of clients: connections to the store, files, what uvicorn accepts in one go."""


class Server(uvicorn.Server):
    """Ends long-polls as soon as the process is told to stop, so that they do not hold up its shutdown.

    Args:
        settings: read once by the caller.
        app: what is served.
        more: options of `uvicorn.Config`.
    """

    def __init__(self, settings: GatewaySettings, app: FastAPI, **more: Any) -> None:
        logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLogger().level))
        super().__init__(_config(settings, app, more))
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticked = time.monotonic()

    async def startup(self, *args: Any, **kwargs: Any) -> None:
        """Listen, and say where: the port may have been chosen by the system."""
        self._loop = asyncio.get_running_loop()
        memory.configure_malloc()
        share_interpreter()
        await super().startup(*args, **kwargs)
        memory.freeze_gc_baseline()
        addresses = [socket.getsockname() for server in self.servers for socket in server.sockets]
        log.info("gateway.listening", extra={"addresses": addresses})

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: the event loop turns."""
        self._ticked = time.monotonic()
        return await super().on_tick(counter)

    def stall_reason(self) -> str | None:
        """Why the process should be started anew, or None."""
        silent = time.monotonic() - self._ticked
        return f"the event loop has not turned for {silent:.0f} s" if silent > STALLED_S else None

    def is_serving(self) -> bool:
        """True while it takes requests."""
        return self.started and not self.should_exit

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


def _config(settings: GatewaySettings, app: FastAPI, more: dict[str, Any]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=make_protocol(settings.header_timeout_s, settings.write_timeout_s, _connections()),
        ws="none",
        lifespan="on",
        log_config=None,  # everything goes through jobs.observability.logs
        access_log=False,  # gateway.http.middleware logs each request by its route, never by its path
        server_header=False,
        proxy_headers=False,  # gateway.app trusts the proxies of the settings, and no others
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
        ssl_ca_certs=settings.tls_client_ca_file,
        ssl_cert_reqs=ssl.CERT_REQUIRED if settings.tls_client_ca_file else ssl.CERT_NONE,
        timeout_graceful_shutdown=int(settings.shutdown_grace_s),
        **more,
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
