"""The HTTP server of one process: uvicorn with this service's settings, limits and shutdown."""

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

_MAX_FILES = 65_536
_RESERVED_FILES = 256
"""File descriptors not used for clients: connections to Redis, files, connections that uvicorn accepts at once."""


class Server(uvicorn.Server):
    """Ends long-polls as soon as the process gets a signal, so that they do not delay its shutdown.

    Args:
        settings: read once by the caller.
        app: the application to serve.
        options: further options of `uvicorn.Config`.
    """

    def __init__(self, settings: GatewaySettings, app: FastAPI, **options: Any) -> None:
        logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLogger().level))
        super().__init__(_make_config(settings, app, options))
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticked = time.monotonic()

    async def startup(self, *args: Any, **kwargs: Any) -> None:
        """Listen, and log the addresses, since the system may have chosen the port."""
        self._loop = asyncio.get_running_loop()
        memory.configure_malloc()
        share_interpreter()
        await super().startup(*args, **kwargs)
        memory.freeze_gc_baseline()
        addresses = [socket.getsockname() for server in self.servers for socket in server.sockets]
        log.info("gateway.listening", extra={"addresses": addresses})

    async def on_tick(self, counter: int) -> bool:
        """Note ten times a second that the event loop turns."""
        self._ticked = time.monotonic()
        return await super().on_tick(counter)

    def stall_reason(self) -> str | None:
        """Return the reason to restart the process, or None."""
        silent = time.monotonic() - self._ticked
        return f"the event loop has not turned for {silent:.0f} s" if silent > STALLED_S else None

    def is_serving(self) -> bool:
        """Return whether it accepts requests."""
        return self.started and not self.should_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop accepting requests and answer waiting ones now; a second SIGINT stops at once.

        uvicorn's own handler finally raises the signal again, so that the process dies of it; a drained gateway
        exits 0.
        """
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
        services = getattr(self._app.state, "services", None)
        if self._loop is not None and services is not None:
            self._loop.call_soon_threadsafe(services.waiter.drain)


def _make_config(settings: GatewaySettings, app: FastAPI, options: dict[str, Any]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=make_protocol(settings.header_timeout_s, settings.write_timeout_s, _raise_connection_limit()),
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
        **options,
    )


def _raise_connection_limit() -> int:
    """Raise the limit of open files as far as possible; return the number of them that clients may use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft == resource.RLIM_INFINITY or soft >= limit:
        limit = _MAX_FILES if soft == resource.RLIM_INFINITY else soft
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(1, limit - _RESERVED_FILES)
