"""A small receiver of webhooks on this machine: verified events in a queue. For trying out, not for production."""

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
    """Takes webhooks at `url` while the block runs.

    Args:
        secret: of the webhooks that are to come; others are answered 401.
        port: 0 takes a free one.
        host: where to listen.
    """

    def __init__(self, secret: str, port: int = 0, host: str = "127.0.0.1") -> None:
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._server = _Server((host, port), _Handler)
        self._server.secret, self._server.events = secret, self._events
        self.secret = secret
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1})

    @property
    def url(self) -> str:
        """Where webhooks go."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/"

    def next(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """The next verified event; None if there was none in time."""
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
        """Take one event."""
        length = self.headers.get("content-length", "")
        if not length.isdigit() or int(length) > _MAX_BODY:
            self._answer(413)
            return
        body = self.rfile.read(int(length))
        try:
            event = verify_webhook(body, dict(self.headers.items()), self.server.secret)
        except WebhookVerificationError:
            self._answer(401)
            return
        self.server.events.put(event)
        self._answer(204)

    def log_message(self, *_: object) -> None:
        """Nothing: what matters is in the queue."""

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
