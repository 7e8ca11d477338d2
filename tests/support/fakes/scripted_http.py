"""A real HTTP server on loopback that gives a test's scripted answers and records the requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Parse the body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """A scripted response; `drop` closes the connection without one."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False


Behaviour = Callable[[ReceivedRequest], Answer]


def problem(status: int, code: str, **more: Any) -> Answer:
    """Return a problem+json answer."""
    headers = {"Content-Type": "application/problem+json", **more.pop("headers", {})}
    return Answer(status, {"status": status, "code": code, "detail": f"it is {code}", **more}, headers)


class ScriptedServer:
    """The server; `answers` are used up in order unless there is a `behaviour`."""

    def __init__(self, *answers: Answer, behaviour: Behaviour | None = None) -> None:
        self.requests: list[ReceivedRequest] = []
        self._answers = list(answers)
        self._behaviour = behaviour
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def answer(self, request: ReceivedRequest) -> Answer:
        """Return the next answer."""
        with self._lock:
            self.requests.append(request)
            if self._behaviour is not None:
                return self._behaviour(request)
            return self._answers.pop(0) if self._answers else Answer(599)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                split = urlsplit(self.path)
                length = int(self.headers.get("content-length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                query = dict(parse_qsl(split.query))
                request = ReceivedRequest(self.command, split.path, query, headers, self.rfile.read(length))
                answer = server.answer(request)
                if answer.drop:
                    self.close_connection = True
                    return
                body = b"" if answer.body is None else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                if answer.status != 204:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - the names http.server looks up

            def log_message(self, *_args: Any) -> None:
                pass

        return Handler

    @contextmanager
    def running(self) -> Iterator[ScriptedServer]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()
