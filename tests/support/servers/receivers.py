"""Receivers of webhooks, correct and hostile, on loopback: the path selects the behaviour."""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Event


@dataclass(frozen=True)
class Request:
    """A received request, and its time (time.monotonic)."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass
class Receiver:
    """A running receiver.

    Attributes:
        gate: requests to `/gate` are answered while it is set.
        seen: every request, in order of arrival.
    """

    port: int
    scheme: str = "http"
    seen: list[Request] = field(default_factory=list)
    gate: Event = field(default_factory=Event)
    ending: Event = field(default_factory=Event)
    arrived: Condition = field(default_factory=Condition)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """Return a URL of this receiver."""
        return f"{self.scheme}://{host}:{self.port}{path}"

    def at(self, path: str) -> list[Request]:
        """Return the requests to one path."""
        with self.arrived:
            return [request for request in self.seen if request.path == path]

    def wait(self, path: str, count: int, within_s: float = 20.0) -> list[Request]:
        """Wait for `count` requests to a path and return them; fail the test after `within_s`."""
        with self.arrived:
            done = self.arrived.wait_for(lambda: sum(r.path == path for r in self.seen) >= count, within_s)
            requests = [request for request in self.seen if request.path == path]
        assert done, f"{len(requests)} of {count} requests to {path} in {within_s} s"
        return requests


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for every connection, so that none is left to a later test
    request_queue_size = 128
    receiver: Receiver

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that give up: these tests cause them."""


class _ReceiverHandler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10

    def log_message(self, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._answer(200)

    def do_POST(self) -> None:
        receiver = self.server.receiver
        length = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:
            return  # its sender was killed in the middle
        headers = {name.lower(): value for name, value in self.headers.items()}
        with receiver.arrived:
            receiver.seen.append(Request(self.path, headers, body, time.monotonic()))
            receiver.arrived.notify_all()
        behave = getattr(self, "at_" + self.path.strip("/").split("/")[0].replace("-", "_"), None)
        if behave is None:
            self._answer(200)
        else:
            behave(receiver)

    def _answer(self, status: int, body: bytes = b"ok", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def at_500(self, _: Receiver) -> None:
        self._answer(500, b"broken")

    def at_503(self, _: Receiver) -> None:
        self._answer(503, b"later", Retry_After=self.path.rpartition("/")[2])

    def at_429(self, _: Receiver) -> None:
        self._answer(429, b"slower", Retry_After=self.path.rpartition("/")[2])

    def at_410(self, _: Receiver) -> None:
        self._answer(410, b"gone")

    def at_disable(self, _: Receiver) -> None:
        self._answer(200, webhook_delivery="disable")

    def at_abort(self, _: Receiver) -> None:
        self._answer(500, webhook_delivery="abort-message")

    def at_flaky(self, receiver: Receiver) -> None:
        """Every event fails the first time."""
        event = self.headers["webhook-id"]
        with receiver.arrived:
            first = sum(request.headers.get("webhook-id") == event for request in receiver.seen) == 1
        self._answer(503 if first else 200)

    def at_slow(self, receiver: Receiver) -> None:
        receiver.ending.wait(0.02)
        self._answer(200)

    def at_wait(self, receiver: Receiver) -> None:
        """`/wait/<seconds>/...` answers after so long."""
        receiver.ending.wait(float(self.path.split("/")[2]))
        self._answer(200)

    def at_redirect(self, _: Receiver) -> None:
        self._answer(307, b"", Location="http://169.254.169.254/latest/meta-data")

    def at_huge(self, _: Receiver) -> None:
        """Send an endless body."""
        self.send_response(200)
        self.end_headers()
        chunk = b"x" * 65536
        for _round in range(16384):
            self.wfile.write(chunk)

    def at_far_future(self, _: Receiver) -> None:
        self._answer(503, Retry_After="Wed, 9999999999999999999918 May 2033 03:33:20 GMT")

    def at_status_line(self, _: Receiver) -> None:
        """Send an endless status line."""
        self.wfile.write(b"HTTP/1.1 200 ")
        for _round in range(1000):
            self.wfile.write(b"x" * 1000)

    def at_continue(self, _: Receiver) -> None:
        """Interim answers without end."""
        for _round in range(100_000):
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    def at_bomb(self, _: Receiver) -> None:
        """Send a small body that unpacks to 100 MB."""
        self._answer(200, gzip.compress(bytes(100_000_000)), Content_Encoding="gzip")

    def at_chunks(self, _: Receiver) -> None:
        """Chunks of one byte with an extension of 200 each, without end."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _round in range(100_000):
            self.wfile.write((b"1;" + b"x" * 200 + b"\r\na\r\n") * 10)

    def at_huge_head(self, _: Receiver) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _round in range(4096):
            self.wfile.write(b"X-Filler: " + b"x" * 1000 + b"\r\n")

    def at_silent(self, receiver: Receiver) -> None:
        receiver.ending.wait(60)

    def at_drip(self, receiver: Receiver) -> None:
        """Send the head byte by byte, so that no timeout restarted by each byte expires."""
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if receiver.ending.wait(0.1):
                return

    def at_drip_body(self, receiver: Receiver) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        while not receiver.ending.wait(0.1):
            self.wfile.write(b".")
            self.wfile.flush()

    def at_reset(self, _: Receiver) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def at_garbage(self, _: Receiver) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")

    def at_gate(self, receiver: Receiver) -> None:
        if receiver.gate.wait(60):
            self._answer(200)


@contextmanager
def receiving(tls: tuple[Path, Path] | None = None, client_ca: Path | None = None) -> Iterator[Receiver]:
    """Run a receiver until the block ends.

    Args:
        tls: certificate chain and key.
        client_ca: who must have signed the client's certificate.
    """
    server = _Server(("127.0.0.1", 0), _ReceiverHandler)
    receiver = server.receiver = Receiver(server.server_address[1])
    if tls is not None:
        receiver.scheme = "https"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_ca)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.ending.set()
        receiver.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
