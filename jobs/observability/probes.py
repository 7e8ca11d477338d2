"""The second port of every process: /metrics, /livez and /readyz, answered by dedicated threads.

It keeps answering while the process is busy. An event loop reads request heads, so that silent connections cost no
thread. Concurrent requests for one path share one evaluation, so that a check that hangs blocks one thread only.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from jobs.observability.logs import log_failure

log = logging.getLogger(__name__)

Check = Callable[[], str | None]
"""Returns None if all is well, else the reason, which must not quote a secret or a text."""
Answer = tuple[int, str, bytes]

MAX_CONNECTIONS = 128
"""One more closes the oldest connection without a request yet, or the oldest of all if there is none."""
CONNECTION_S = 15.0
"""Maximum lifetime of a connection; Prometheus waits for 10 s by default."""
HEAD_S = 5.0
_MAX_HEAD = 8 * 1024
_PLAIN = "text/plain; charset=utf-8"
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class ProbeServer:
    """Serves a process's metrics and probes.

    Args:
        host: address to listen on.
        port: port to listen on; 0 takes a free one (see `port`).
        registry: what /metrics shows.
        alive: returns why the process should be restarted, or None.
        ready: returns why it should get no work yet, or None.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, alive: Check, ready: Check) -> None:
        self._answers: dict[str, Callable[[], Answer]] = {
            "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(registry)),
            "/livez": lambda: _run_check(alive),
            "/readyz": lambda: _run_check(ready),
        }
        self._underway: dict[str, asyncio.Future[Answer]] = {}
        self._silent: dict[asyncio.Task[None], None] = {}
        self._asking: dict[asyncio.Task[None], None] = {}
        self._listening = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=MAX_CONNECTIONS
        )
        self.port = int(self._listening.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = Thread(target=self._serve, name="probes", daemon=True)

    def start(self) -> None:
        """Start answering."""
        self._thread.start()
        log.info("probes.listening", extra={"port": self.port})

    def stop(self) -> None:
        """Stop answering and free the port."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self._loop.close()
        self._listening.close()

    def _serve(self) -> None:
        self._loop.run_until_complete(self._run())

    async def _run(self) -> None:
        server = await asyncio.start_server(self._handle_connection, sock=self._listening, limit=_MAX_HEAD)
        await self._stopping.wait()
        server.close()
        connections = [*self._silent, *self._asking]
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        if connection is None:
            raise RuntimeError("a connection is handled outside of a task")
        if len(self._silent) + len(self._asking) >= MAX_CONNECTIONS:
            candidates = self._silent or self._asking
            oldest = next(iter(candidates))
            del candidates[oldest]
            oldest.cancel()
        self._silent[connection] = None
        try:
            with suppress(OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, asyncio.CancelledError):
                async with asyncio.timeout(CONNECTION_S):
                    async with asyncio.timeout(HEAD_S):
                        head = await reader.readuntil(b"\r\n\r\n")
                    self._asking[connection] = self._silent.pop(connection)
                    await self._send_answer(head, writer)
        finally:
            self._silent.pop(connection, None)
            self._asking.pop(connection, None)
            writer.transport.abort()  # a complete answer was drained before

    async def _send_answer(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if not path.startswith("/"):
            answer: Answer = (400, _PLAIN, b"bad request\n")
        elif path not in self._answers:
            answer = (404, _PLAIN, b"not found\n")
        elif method not in ("GET", "HEAD"):
            answer = (405, _PLAIN, b"method not allowed\n")
        else:
            answer = await self._evaluate(path)
        status, kind, body = answer
        lines = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n"
        lines += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(lines.encode("latin-1") + (b"" if method == "HEAD" else body))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def _evaluate(self, path: str) -> Answer:
        """Return the answer at a path; concurrent requests share one evaluation."""
        if path not in self._underway:
            self._underway[path] = self._loop.create_future()
            # A daemon, so that a check that hangs does not delay the end of the process.
            Thread(target=self._evaluate_in_thread, args=(path,), name="probes-answer", daemon=True).start()
        return await asyncio.shield(self._underway[path])

    def _evaluate_in_thread(self, path: str) -> None:
        try:
            answer = self._answers[path]()
        except Exception as error:  # noqa: BLE001  # a probe must always answer
            log_failure(log, "probes.failed", error)
            answer = 503, _PLAIN, f"failed: {type(error).__name__}\n".encode()
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(lambda: self._underway.pop(path).set_result(answer))


def _run_check(check: Check) -> Answer:
    reason = check()
    return (200 if reason is None else 503), _PLAIN, f"{reason or 'ok'}\n".encode()
