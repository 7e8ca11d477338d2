"""The connection's side of a request: a slow or silent client is let go before it can hold up others.

uvicorn itself waits for ever for the end of a request's head, and for a client to read its answer.
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
"""Requests of one connection that may wait for the answer to the one before."""
_FRAMING_PER_BYTE = 8
"""What carries a body (sizes of chunks, extensions, trailers) may be a head's size, and this much a byte of it."""
_FREE_CHUNKS = 16 * 1024
_MIN_CHUNK_BYTES = 64
"""A body may come in so many pieces, and in more if they have this size on average."""
_TIMEOUT_RESPONSE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_BAD_REQUEST_RESPONSE = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_URI_TOO_LONG_RESPONSE = b"HTTP/1.1 414 URI Too Long\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_HEAD_TOO_LARGE_RESPONSE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits on time, size and number; `make_protocol` makes one with numbers.

    A connection is idle from its beginning, or from the end of an answer, until a request's head is complete. Where
    there are more connections than the process may have, the one that is idle longest goes.
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
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._start_head_timer()
        if len(self.connections) > self.max_connections and (oldest := next(iter(self.idle), None)) is not None:
            oldest.close_connection("connections", None)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head that is not complete, and those of a body that are not its own."""
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
        """A head begins, perhaps behind another request in the same packet."""
        super().on_message_begin()
        self._start_head_timer()
        self._head_bytes = max(1, self._head_bytes)
        self._head_size = self._framing_bytes = self._body_bytes = self._chunk_count = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; fields behind a body (trailers) are nothing to anybody."""
        if self._head_timer is not None:
            self._head_size += len(name) + len(value) + len(": \r\n")
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there: what follows is a request's own business."""
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
        """Count the pieces of a body: each costs work, however small it is."""
        self._framing_bytes -= len(body)
        self._body_bytes += len(body)
        self._chunk_count += 1
        if not self._rejected and self._chunk_count > _FREE_CHUNKS + self._body_bytes // _MIN_CHUNK_BYTES:
            self._reject("pieces", _BAD_REQUEST_RESPONSE)
        if not self._rejected:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there."""
        if not self._rejected:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The next head may come."""
        super().on_response_complete()
        if not self.pipeline and not self.transport.is_closing():
            self.idle[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_head_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read; not for ever."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.write_timeout_s, self.close_connection, "write", None)

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def close_connection(self, reason: str, response: bytes | None) -> None:
        """End the connection, with a last word for a client that had begun to speak."""
        self._stop_head_timer()
        log.debug("wire.let_go", extra={"reason": reason})
        if self.transport.is_closing():
            return
        answering = self.cycle is not None and not self.cycle.response_complete
        if response is None or not self._head_bytes or answering:
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
    """A protocol for one server.

    Args:
        head_timeout_s: how long a request's head may take.
        write_timeout_s: how long a client may read nothing of an answer that waits for it.
        max_connections: more than these, and idle ones go.
    """
    limits = {
        "head_timeout_s": head_timeout_s,
        "write_timeout_s": write_timeout_s,
        "max_connections": max_connections,
        "idle": {},
    }
    return type("LimitedWire", (LimitedProtocol,), limits)
