"""A small webhook receiver on this machine that queues verified events. For trying out, not for production."""

from __future__ import annotations

import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from gleaner.errors import WebhookVerificationError
from gleaner.webhooks import verify_webhook

_MAX_BODY = 1 << 20


class Listener:
    """Receives webhooks at `url` while the block runs.

    Args:
        secret: the secret that the webhooks are signed with; other requests get 401.
        port: 0 for a free one.
        host: address to listen on.
    """

    def __init__(self, secret: str, port: int = 0, host: str = "127.0.0.1") -> None:
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._server = _Server((host, port), _Handler)
        self._server.secret, self._server.events = secret, self._events
        self.secret = secret
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1})

    @property
    def url(self) -> str:
        """URL of the receiver."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/"

    def next(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """Return the next verified event, or None if there was none in time."""
        try:
            return self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    secret: str
    events: queue.Queue[dict[str, Any]]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10

    def do_POST(self) -> None:
        """Verify and queue one event."""
        length = self.headers.get("content-length", "")
        if not length.isdigit() or int(length) > _MAX_BODY:
            self._respond(413)
            return
        body = self.rfile.read(int(length))
        try:
            event = verify_webhook(body, dict(self.headers.items()), self.server.secret)
        except WebhookVerificationError:
            self._respond(401)
            return
        self.server.events.put(event)
        self._respond(204)

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _respond(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
