"""Limits on connections: a slow or silent client is disconnected before it can block others.

uvicorn itself waits indefinitely for the end of a request's head, and for a client to read the response.
"""

from __future__ import annotations

import asyncio
import logging
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
MAX_URL_BYTES = 16 * 1024
MAX_HEADERS = 256
MAX_PIPELINED = 64
"""Requests of one connection that may wait for the previous response."""
_FRAMING_PER_BYTE = 8
"""Framing bytes (chunk sizes, extensions, trailers) allowed for each body byte, in addition to a head's size."""
_FREE_CHUNKS = 16 * 1024
_MIN_CHUNK_BYTES = 64
"""A body may come in `_FREE_CHUNKS` chunks, and in more if they have this size on average."""
_TIMEOUT_RESPONSE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_BAD_REQUEST_RESPONSE = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_URI_TOO_LONG_RESPONSE = b"HTTP/1.1 414 URI Too Long\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_HEAD_TOO_LARGE_RESPONSE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits on time, size and number; `make_protocol` sets them.

    A connection is idle from its beginning, or from the end of a response, until a request's head is complete. With
    more connections than `max_connections`, the one that has been idle longest is closed.
    """

    head_timeout_s: ClassVar[float]
    write_timeout_s: ClassVar[float]
    max_connections: ClassVar[int]
    idle: ClassVar[dict[LimitedProtocol, None]]

    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _head_size = 0
    _framing_bytes = _body_bytes = _chunk_count = 0
    _rejected = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Start the timer for a request's head."""
        super().connection_made(transport)
        self._start_head_timer()
        if len(self.connections) > self.max_connections and (oldest := next(iter(self.idle), None)) is not None:
            oldest.close_connection("connections", None)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of an incomplete head, and the framing bytes of a body."""
        if self._rejected:
            return
        if self.cycle is None or self.cycle.response_complete:
            self._start_head_timer()
        if self._head_timer is not None:
            self._head_bytes += len(data)
        self._framing_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._head_timer is not None:
            if self._head_bytes > MAX_HEAD_BYTES:
                self._reject("head_size", _HEAD_TOO_LARGE_RESPONSE)
        elif self._framing_bytes > MAX_HEAD_BYTES + _FRAMING_PER_BYTE * self._body_bytes:
            self._reject("framing", _BAD_REQUEST_RESPONSE)

    def on_message_begin(self) -> None:
        """Begin a head, perhaps after another request in the same packet."""
        super().on_message_begin()
        self._start_head_timer()
        self._head_bytes = max(1, self._head_bytes)
        self._head_size = self._framing_bytes = self._body_bytes = self._chunk_count = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Accept a field of the head; ignore trailers, the fields after a body."""
        if self._head_timer is not None:
            self._head_size += len(name) + len(value) + len(": \r\n")
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the head timer and check the head's size."""
        if self._rejected:
            return
        if len(self.url) > MAX_URL_BYTES:
            self._reject("url_size", _URI_TOO_LONG_RESPONSE)
        elif self._head_size + len(self.url) > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._reject("head_size", _HEAD_TOO_LARGE_RESPONSE)
        elif len(self.pipeline) >= MAX_PIPELINED:
            self._reject("pipeline", None)
        else:
            self._stop_head_timer()
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count the chunks of a body: each costs work, however small it is."""
        self._framing_bytes -= len(body)
        self._body_bytes += len(body)
        self._chunk_count += 1
        if not self._rejected and self._chunk_count > _FREE_CHUNKS + self._body_bytes // _MIN_CHUNK_BYTES:
            self._reject("pieces", _BAD_REQUEST_RESPONSE)
        if not self._rejected:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Finish the request unless it was rejected."""
        if not self._rejected:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Mark the connection as idle."""
        super().on_response_complete()
        if not self.pipeline and not self.transport.is_closing():
            self.idle[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._stop_head_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the timer for a client that does not read."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.write_timeout_s, self.close_connection, "write", None)

    def resume_writing(self) -> None:
        """Stop the timer: the client reads again."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def close_connection(self, reason: str, response: bytes | None) -> None:
        """Close the connection, with `response` if the client has begun a request."""
        self._stop_head_timer()
        log.debug("connection.closed", extra={"reason": reason})
        if self.transport.is_closing():
            return
        is_responding = self.cycle is not None and not self.cycle.response_complete
        if response is None or not self._head_bytes or is_responding:
            self.transport.abort()
            return
        self.transport.write(response)
        self.transport.close()

    def _reject(self, reason: str, response: bytes | None) -> None:
        self._rejected = True
        self.close_connection(reason, response)

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(
                self.head_timeout_s, self.close_connection, "head_time", _TIMEOUT_RESPONSE
            )
            self.idle[self] = None

    def _stop_head_timer(self) -> None:
        self.idle.pop(self, None)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def make_protocol(head_timeout_s: float, write_timeout_s: float, max_connections: int) -> type[LimitedProtocol]:
    """Return a protocol class for one server.

    Args:
        head_timeout_s: seconds within which a request's head must be complete.
        write_timeout_s: seconds a client may stall while reading a response before the connection is closed.
        max_connections: with more connections than this, idle ones are closed.
    """
    limits = {
        "head_timeout_s": head_timeout_s,
        "write_timeout_s": write_timeout_s,
        "max_connections": max_connections,
        "idle": {},
    }
    return type("LimitedWire", (LimitedProtocol,), limits)
