"""A request's body as it comes in: decompressed, never more than a limit of it, and never waited for too long.

A compressed body is bounded three ways: by its size once decompressed, by how far the whole of it expands, and by
how far any one piece of it does, so that no piece can fill the memory.
"""

from __future__ import annotations

import asyncio
import sys
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Protocol

from fastapi import Request
from starlette.requests import ClientDisconnect

from gateway.problems import Problem

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1024 * 1024
ENCODINGS = ("gzip", "zstd")
PIECE = 256 * 1024
"""Bytes decompressed at a time."""
FREE_EXPANSION = MIB
"""So much may come of any piece whatever its ratio: short bodies compress without measure."""
SLOWEST_BYTES_PER_S = 1024
"""A body that comes slower than this, on average after `idle_s`, is not waited for."""
_WINDOW_LOG_MAX = 23  # 8 MiB, what RFC 9659 allows for zstd over HTTP
_DRAIN_BYTES = 64 * MIB
_DRAIN_S = 10.0


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
    def feed(self, data: bytes) -> Iterator[bytes]: ...
    def whole(self) -> bool: ...


async def body_chunks(request: Request, limits: BodyLimits) -> AsyncIterator[bytes]:
    """The body's bytes, decompressed.

    Raises:
        Problem: unsupported_media_type, payload_too_large, bad_content_encoding or request_timeout.
        ClientDisconnect: the client went away.
    """
    inflater = _inflater(request)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.size:
        if "expect" not in request.headers:
            await drain(request)
        raise _too_large(limits.size)
    sent = size = 0
    async for chunk in _received(request, limits.idle_s):
        sent += len(chunk)
        room = _room(limits, sent, size, len(chunk), compressed=inflater is not None)
        for piece in (chunk,) if inflater is None else _inflate(inflater, chunk):
            size, room = size + len(piece), room - len(piece)
            if room < 0:
                await drain(request)
                raise _too_large(limits.size) if size > limits.size else _expands(limits.ratio)
            yield piece
    if inflater is not None and not inflater.whole():
        raise _bad_encoding("ends in its middle")


def _room(limits: BodyLimits, sent: int, size: int, chunk: int, *, compressed: bool) -> int:
    """How many bytes this chunk may become."""
    room = limits.size - size
    if not compressed:
        return room
    total = max(FREE_EXPANSION, limits.ratio * sent) - size
    return min(room, total, max(FREE_EXPANSION, limits.ratio * chunk))


async def _received(request: Request, idle_s: float) -> AsyncIterator[bytes]:
    began, received = time.monotonic(), 0
    while True:
        latest = began + idle_s + received / SLOWEST_BYTES_PER_S
        try:
            async with asyncio.timeout(min(idle_s, latest - time.monotonic())):
                message = await request.receive()
        except TimeoutError:
            # The rest of the body is not waited for, so the connection cannot be used again.
            detail = "the body came too slowly"
            raise Problem("request_timeout", detail, headers={"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if body := message.get("body", b""):
            received += len(body)
            yield body
        if not message.get("more_body", False):
            return


async def drain(request: Request) -> None:
    """Read on for a while: a client that is still sending would see a reset instead of the answer."""
    seen = 0
    try:
        async with asyncio.timeout(_DRAIN_S):
            while seen < _DRAIN_BYTES:
                message = await request.receive()
                seen += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


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


class _Gzip:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._stream.eof:  # gzip files may be joined end to end
                self._stream = zlib.decompressobj(wbits=31)
            piece = self._stream.decompress(data, PIECE)
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            if piece:
                yield piece

    def whole(self) -> bool:
        return self._stream.eof


class _Zstd:
    def __init__(self) -> None:
        self._stream = self._new()

    @staticmethod
    def _new() -> zstd.ZstdDecompressor:
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX})

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._stream.eof:  # and so may zstd's frames
                if not data:
                    return
                self._stream = self._new()
            if piece := self._stream.decompress(data, PIECE):
                yield piece
            if self._stream.eof:
                data = self._stream.unused_data
            elif self._stream.needs_input:
                return
            else:
                data = b""  # it keeps what it did not get to

    def whole(self) -> bool:
        return self._stream.eof


def _too_large(limit: int) -> Problem:
    return Problem("payload_too_large", f"the body is larger than {limit} bytes")


def _expands(ratio: int) -> Problem:
    return Problem("payload_too_large", f"the compressed body grows to more than {ratio} times its size")


def _bad_encoding(what: str) -> Problem:
    detail = f"the compressed body {what}"
    return Problem("bad_content_encoding", detail, [("header:Content-Encoding", what)])
