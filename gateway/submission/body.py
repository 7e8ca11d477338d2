"""A request's body as it comes in: decompressed, never more than a limit of it, and never waited for too long.

A compressed body is bounded three ways: by its size once decompressed, by how far the whole of it expands, and by
how far any one piece of it does, so that no piece can fill the memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

from fastapi import Request
from starlette.requests import ClientDisconnect

from gateway.http.problems import Problem

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1024 * 1024
ENCODINGS = ("gzip", "zstd")
CHUNK_BYTES = 256 * 1024
"""Bytes decompressed at a time."""
FREE_EXPANSION = MIB
"""So much may come of any piece whatever its ratio: short bodies compress without measure."""
SLOWEST_BYTES_PER_S = 1024
"""A body that comes slower than this, on average after `idle_s`, is not waited for."""
_WINDOW_LOG_MAX = 23  # 8 MiB, what RFC 9659 allows for zstd over HTTP
_DRAIN_BYTES = 64 * MIB
_DRAIN_S = 10.0
_FREE_FRAMES = 64
_FRAME_BYTES = 1024
"""Frames of a compressed body must bring this much each on average, beyond the first few: each costs work."""
_FREE_SENT = MIB
"""A compressed body may be this much longer than the limit on what comes out of it."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How much of a body is read, and how patiently.

    Attributes:
        size: most bytes, after decompression.
        ratio: most bytes that a compressed one may become.
        idle_s: longest silence within a body (seconds).
    """

    size: int
    ratio: int = 100
    idle_s: float = 30.0


class _Inflater(Protocol):
    window: int

    def feed(self, data: bytes) -> Iterator[bytes]: ...
    def is_complete(self) -> bool: ...


class BodyChunks:
    """The body's bytes, decompressed, piece by piece. A class: the loop keeps books on asynchronous generators.

    Attributes:
        size: bytes that came out so far.

    Raises (when read):
        Problem: unsupported_media_type, payload_too_large, bad_content_encoding or request_timeout.
        ClientDisconnect: the client went away.
    """

    def __init__(self, request: Request, limits: BodyLimits) -> None:
        self.size = 0
        self._request = request
        self._limits = limits
        self._inflater = _inflater(request)
        self._pieces: Iterator[bytes] = iter(())
        self._began = time.monotonic()
        self._sent = self._room = 0
        self._more = True

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> bytes:
        """What comes next."""
        while (piece := next(self._pieces, None)) is None:
            if not self._more:
                if self._inflater is not None and not self._inflater.is_complete():
                    raise _bad_encoding("ends in its middle")
                raise StopAsyncIteration
            await self._receive()
        self.size, self._room = self.size + len(piece), self._room - len(piece)
        if self._room < 0:
            await self.drain()
            size, ratio = self._limits.size, self._limits.ratio
            raise _too_large(size) if self.size > size else _expands(ratio)
        return piece

    async def _receive(self) -> None:
        if not self._sent:
            await self._check_declared()
        latest = self._began + self._limits.idle_s + self._sent / SLOWEST_BYTES_PER_S
        try:
            async with asyncio.timeout(min(self._limits.idle_s, latest - time.monotonic())):
                message = await self._request.receive()
        except TimeoutError:
            # The rest of the body is not waited for, so the connection cannot be used again.
            detail = "the body came too slowly"
            self._more = False
            raise Problem("request_timeout", detail, headers={"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, self._more = message.get("body", b""), message.get("more_body", False)
        self._sent += len(chunk)
        if self._sent > self._limits.size + _FREE_SENT:
            await self.drain()
            raise _too_large(self._limits.size)
        self._room = self._room_for(len(chunk))
        self._pieces = iter((chunk,)) if self._inflater is None else _inflate(self._inflater, chunk)

    def declared_size(self) -> int | None:
        """Return the size that the body says to have, where it is not compressed and says it (bytes)."""
        declared_size = self._request.headers.get("content-length", "")
        return int(declared_size) if self._inflater is None and declared_size.isdigit() else None

    def window(self) -> int:
        """Return the bytes of what came out that the decompressor keeps."""
        return 0 if self._inflater is None else min(self.size, self._inflater.window)

    async def drain(self) -> None:
        """Read on for a while if more is to come: a client that is still sending would see a reset, no answer."""
        if not self._sent and "expect" in self._request.headers:
            return
        seen = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while self._more and seen < _DRAIN_BYTES:
                    message = await self._request.receive()
                    seen += len(message.get("body", b""))
                    self._more = message.get("more_body", False)
        self._more = False

    async def _check_declared(self) -> None:
        declared_size = self._request.headers.get("content-length", "")
        if declared_size.isdigit() and int(declared_size) > self._limits.size:
            await self.drain()
            raise _too_large(self._limits.size)

    def _room_for(self, chunk: int) -> int:
        """How many bytes a chunk may become."""
        room = self._limits.size - self.size
        if self._inflater is None:
            return room
        total = max(FREE_EXPANSION, self._limits.ratio * self._sent) - self.size
        return min(room, total, max(FREE_EXPANSION, self._limits.ratio * chunk))


def _inflater(request: Request) -> _Inflater | None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    match encoding:
        case "identity" | "":
            return None
        case "gzip" | "x-gzip":
            return _Gzip()
        case "zstd":
            return _Zstd()
    known = ", ".join(ENCODINGS)
    detail = f"the Content-Encoding must be {known} or none"
    raise Problem("unsupported_media_type", detail, headers={"Accept-Encoding": known})


def _inflate(inflater: _Inflater, chunk: bytes) -> Iterator[bytes]:
    try:
        yield from inflater.feed(chunk)
    except (zlib.error, zstd.ZstdError):
        raise _bad_encoding("is not what it says") from None


class _Frames:
    """Counts the frames of a compressed body, which may be joined end to end."""

    def __init__(self) -> None:
        self._frames = self._size = 0

    def count(self) -> None:
        """Note that another frame begins.

        Raises:
            Problem: they are many for what came out of them.
        """
        self._frames += 1
        if self._frames > _FREE_FRAMES + self._size // _FRAME_BYTES:
            raise _bad_encoding("has too many small parts")

    def add(self, piece: bytes) -> None:
        """Note what came out."""
        self._size += len(piece)


class _Gzip:
    window = 32 * 1024

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)
        self._frames = _Frames()

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._stream.eof:
                self._frames.count()
                self._stream = zlib.decompressobj(wbits=31)
            piece = self._stream.decompress(data, CHUNK_BYTES)
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            if piece:
                self._frames.add(piece)
                yield piece

    def is_complete(self) -> bool:
        return self._stream.eof


class _Zstd:
    window = 1 << _WINDOW_LOG_MAX

    def __init__(self) -> None:
        self._stream = self._new()
        self._frames = _Frames()

    @staticmethod
    def _new() -> zstd.ZstdDecompressor:
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX})

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._stream.eof:
                if not data:
                    return
                self._frames.count()
                self._stream = self._new()
            if piece := self._stream.decompress(data, CHUNK_BYTES):
                self._frames.add(piece)
                yield piece
            if self._stream.eof:
                data = self._stream.unused_data
            elif self._stream.needs_input:
                return
            else:
                data = b""  # it keeps what it did not get to

    def is_complete(self) -> bool:
        return self._stream.eof


def _too_large(limit: int) -> Problem:
    return Problem("payload_too_large", f"the body is larger than {limit} bytes")


def _expands(ratio: int) -> Problem:
    return Problem("payload_too_large", f"the compressed body grows to more than {ratio} times its size")


def _bad_encoding(what: str) -> Problem:
    detail = f"the compressed body {what}"
    return Problem("bad_content_encoding", detail, [("header:Content-Encoding", what)])
