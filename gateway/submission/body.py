"""Reads and decompresses a request's body, within limits of size and time.

The limits of a compressed body: its size after decompression, the compression ratio of the whole, and that of each
chunk, so that no chunk can fill the memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from gateway.errors import GatewayError, UnsupportedEncodingError
from gateway.settings import GatewaySettings
from gateway.submission.body_memory import FREE_BYTES, Reservation
from gateway.submission.headers import check_media_type
from gateway.submission.types import IncomingRequest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1024 * 1024
ENCODINGS = ("gzip", "zstd")
CHUNK_BYTES = 256 * 1024
"""Largest output of one decompression step (bytes)."""
FREE_EXPANSION = MIB
"""Output that is allowed at any compression ratio (bytes): short bodies may compress very well."""
MIN_BYTES_PER_S = 1024
"""Slowest body that is accepted, on average after the first `idle_s`."""
_WINDOW_LOG_MAX = 23  # 8 MiB, the maximum of RFC 9659 for zstd over HTTP
_DRAIN_BYTES = 64 * MIB
_DRAIN_S = 10.0
_FREE_FRAMES = 64
_FRAME_BYTES = 1024
"""Smallest average output of a compressed body's frames after the first `_FREE_FRAMES`: each costs CPU time."""
_FREE_SENT = MIB
"""Compressed bytes that are accepted in addition to the limit of decompressed ones."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Limits of a body.

    Attributes:
        size: most bytes, after decompression.
        ratio: largest compression ratio.
        idle_s: longest pause within a body (seconds).
    """

    size: int
    ratio: int = 100
    idle_s: float = 30.0


class BodyChunks:
    """Iterates over the decompressed chunks of a body. A class, as the event loop tracks asynchronous generators.

    Attributes:
        size: decompressed bytes so far.

    Raises (when read):
        GatewayError: unsupported_media_type, payload_too_large, bad_content_encoding or request_timeout.
    """

    def __init__(self, request: IncomingRequest, limits: BodyLimits) -> None:
        self.size = 0
        self._headers = request.headers
        self._body = request.chunks
        self._limits = limits
        self._inflater = _create_inflater(request.headers.get("content-encoding", "identity"))
        self._chunks: Iterator[bytes] = iter(())
        self._began = time.monotonic()
        self._sent = self._budget = 0
        self._more = True

    def __aiter__(self) -> Self:
        """Return the iterator."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next chunk."""
        while (chunk := next(self._chunks, None)) is None:
            if not self._more:
                if self._inflater is not None and not self._inflater.is_complete():
                    raise _encoding_error("is truncated")
                raise StopAsyncIteration
            await self._receive()
        self.size, self._budget = self.size + len(chunk), self._budget - len(chunk)
        if self._budget < 0:
            await self.drain()
            if self.size > self._limits.size:
                raise _size_error(self._limits.size)
            detail = f"the compressed body expands to more than {self._limits.ratio} times its size"
            raise GatewayError("payload_too_large", detail)
        return chunk

    async def _receive(self) -> None:
        if not self._sent and (self._declared_bytes() or 0) > self._limits.size:
            await self.drain()
            raise _size_error(self._limits.size)
        deadline = self._began + self._limits.idle_s + self._sent / MIN_BYTES_PER_S
        try:
            async with asyncio.timeout(min(self._limits.idle_s, deadline - time.monotonic())):
                chunk = await anext(self._body, None)
        except TimeoutError:
            self._more = False
            raise GatewayError("request_timeout", "the body arrived too slowly") from None
        if chunk is None:
            self._more = False
            return
        self._sent += len(chunk)
        if self._sent > self._limits.size + _FREE_SENT:
            await self.drain()
            raise _size_error(self._limits.size)
        self._budget = self._max_output(len(chunk))
        self._chunks = iter((chunk,)) if self._inflater is None else _inflate(self._inflater, chunk)

    def declared_size(self) -> int | None:
        """Return the Content-Length of an uncompressed body (bytes), or None."""
        return self._declared_bytes() if self._inflater is None else None

    def window_bytes(self) -> int:
        """Return the decompressed bytes that the decompressor buffers."""
        return 0 if self._inflater is None else min(self.size, self._inflater.window)

    async def drain(self) -> None:
        """Read the rest for a while: a client that is still sending would see a reset instead of the response."""
        if not self._more or (not self._sent and "expect" in self._headers):
            return
        drained = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                async for chunk in self._body:
                    drained += len(chunk)
                    if drained >= _DRAIN_BYTES:
                        break
        self._more = False

    def _declared_bytes(self) -> int | None:
        declared = self._headers.get("content-length", "")
        return int(declared) if declared.isdigit() else None

    def _max_output(self, chunk: int) -> int:
        """Return the most bytes that a chunk may decompress to."""
        remaining = self._limits.size - self.size
        if self._inflater is None:
            return remaining
        total = max(FREE_EXPANSION, self._limits.ratio * self._sent) - self.size
        return min(remaining, total, max(FREE_EXPANSION, self._limits.ratio * chunk))


async def read_body(
    request: IncomingRequest, limits: BodyLimits | int, reservation: Reservation | None = None
) -> bytearray:
    """Read and decompress the body of a JSON request.

    Args:
        request: the unread request.
        limits: the body's limits; a number limits its size.
        reservation: memory for the body; None if the limit is small.

    Raises:
        GatewayError: unsupported_media_type, payload_too_large, bad_content_encoding, request_timeout or
            overloaded.
    """
    check_media_type(request.headers, "application/json")
    if isinstance(limits, int):
        limits = BodyLimits(limits)
    chunks = BodyChunks(request, limits)
    body = bytearray()
    reserved = FREE_BYTES
    try:
        if reservation is not None and FREE_BYTES < (declared := chunks.declared_size() or 0) <= limits.size:
            reserved = declared
            await reservation.resize(reserved)
        async for chunk in chunks:
            if reservation is not None and len(body) + len(chunk) > reserved:
                reserved = min(limits.size, max(len(body) + len(chunk), 2 * reserved))
                await reservation.resize(reserved)
            body += chunk
    except GatewayError:
        await chunks.drain()
        raise
    return body


def body_limits(settings: GatewaySettings, size: int) -> BodyLimits:
    """Return the settings' limits for a body of at most `size` bytes."""
    return BodyLimits(size, settings.max_compression_ratio, settings.body_idle_s)


def _create_inflater(encoding: str) -> _Inflater | None:
    match encoding.strip().lower():
        case "identity" | "":
            return None
        case "gzip" | "x-gzip":
            return _Gzip()
        case "zstd":
            return _Zstd()
    raise UnsupportedEncodingError(ENCODINGS)


def _inflate(inflater: _Inflater, chunk: bytes) -> Iterator[bytes]:
    try:
        yield from inflater.feed(chunk)
    except (zlib.error, zstd.ZstdError):
        raise _encoding_error("is not valid for its Content-Encoding") from None


class _Inflater(ABC):
    """Decompresses a body, which may have several concatenated frames.

    Attributes:
        window: most bytes that it buffers.
    """

    window: int

    def __init__(self) -> None:
        self._stream = self._create_stream()
        self._frames = self._size = 0

    def is_complete(self) -> bool:
        """Return whether the last frame has ended."""
        return bool(self._stream.eof)

    @abstractmethod
    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed bytes of the next part of the body, at most `CHUNK_BYTES` at once."""

    @abstractmethod
    def _create_stream(self) -> Any:
        """Return a decompressor of one frame."""

    def _begin_frame(self) -> None:
        """Begin another frame.

        Raises:
            GatewayError: there are too many frames for the bytes that came out of them.
        """
        self._frames += 1
        if self._frames > _FREE_FRAMES + self._size // _FRAME_BYTES:
            raise _encoding_error("has too many small frames")
        self._stream = self._create_stream()


class _Gzip(_Inflater):
    window = 32 * 1024

    def _create_stream(self) -> Any:
        return zlib.decompressobj(wbits=31)

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._stream.eof:
                self._begin_frame()
            chunk = self._stream.decompress(data, CHUNK_BYTES)
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            if chunk:
                self._size += len(chunk)
                yield chunk


class _Zstd(_Inflater):
    window = 1 << _WINDOW_LOG_MAX

    def _create_stream(self) -> Any:
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX})

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._stream.eof:
                if not data:
                    return
                self._begin_frame()
            if chunk := self._stream.decompress(data, CHUNK_BYTES):
                self._size += len(chunk)
                yield chunk
            if self._stream.eof:
                data = self._stream.unused_data
            elif self._stream.needs_input:
                return
            else:
                data = b""  # the decompressor buffers the unread input


def _size_error(limit: int) -> GatewayError:
    return GatewayError("payload_too_large", f"the body is larger than {limit} bytes")


def _encoding_error(detail: str) -> GatewayError:
    return GatewayError(
        "bad_content_encoding", f"the compressed body {detail}", [("header:Content-Encoding", detail)]
    )
