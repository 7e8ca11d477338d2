"""Turns blobs into what the store keeps: compressed with zstandard, encrypted with AES-GCM where keys are set.

Stored form: one byte of format, then the body. `0`: zstd. `1`: 4 bytes of key id, 12 of nonce, AES-GCM of zstd.
The place a blob belongs to (job, kind, shard) is authenticated with it, so that a blob cannot be moved.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_PLAIN, _SEALED = b"\x00", b"\x01"
_LEVEL = 3  # zstd's own default: 300 MB/s and a third of the size on English text
MAX_BLOB_BYTES = 64 * 1024 * 1024


class CodecError(Exception):
    """A blob could not be read: damaged, moved, or sealed with a key that is not configured."""


T = TypeVar("T")
R = TypeVar("R")


class _Spare(Generic[T]):
    """What only one thread may use at a time: as many as were ever used at once, not one for each thread.

    A zstd context is half a megabyte and more, and a worker has a thread for each shard that it holds.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._free: list[T] = []

    def use(self, work: Callable[[T], R]) -> R:
        try:
            taken = self._free.pop()
        except IndexError:
            taken = self._make()
        done = work(taken)
        self._free.append(taken)  # not one that failed
        return done


class Codec:
    """Compresses and, with keys, seals blobs. Safe to share between threads.

    Args:
        keys: AES-256 keys, base64 of 32 bytes; the first seals, all open. None: blobs are only compressed.

    Raises:
        ValueError: a key is not base64 of 32 bytes.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys: dict[bytes, AESGCM] = {}
        for key in keys:
            raw = _key_bytes(key)
            self._keys[hashlib.sha256(raw).digest()[:4]] = AESGCM(raw)
        self._first = next(iter(self._keys), None)
        self._compressors = _Spare(lambda: zstandard.ZstdCompressor(level=_LEVEL))
        self._decompressors = _Spare(zstandard.ZstdDecompressor)

    def encode(self, blob: bytes, place: str) -> bytes:
        """The stored form of a blob that belongs to `place`."""
        packed = self._compressors.use(lambda one: one.compress(blob))
        if self._first is None:
            return _PLAIN + packed
        nonce = os.urandom(12)
        sealed = self._keys[self._first].encrypt(nonce, packed, place.encode())
        return _SEALED + self._first + nonce + sealed

    def decode(self, stored: bytes, place: str) -> bytes:
        """The blob again.

        Raises:
            CodecError: damaged, moved from another place, too large, or sealed with an unknown key.
        """
        try:
            packed = self._open(stored, place)
            return self._decompressors.use(lambda one: one.decompress(packed, max_output_size=MAX_BLOB_BYTES))
        except zstandard.ZstdError as error:
            raise CodecError(f"blob of {place} is damaged") from error

    def _open(self, stored: bytes, place: str) -> bytes:
        kind, body = stored[:1], stored[1:]
        if kind == _PLAIN:
            return body
        if kind != _SEALED:
            raise CodecError(f"blob of {place} has an unknown format")
        key = self._keys.get(body[:4])
        if key is None:
            raise CodecError(f"blob of {place} is sealed with a key that GLEANER_ENCRYPTION_KEYS does not hold")
        try:
            return key.decrypt(body[4:16], body[16:], place.encode())
        except InvalidTag as error:
            raise CodecError(f"blob of {place} is damaged or was moved") from error


def _key_bytes(key: str) -> bytes:
    try:
        raw = base64.b64decode(key, validate=True)
    except binascii.Error as error:
        raise ValueError("an encryption key is not base64") from error
    if len(raw) != 32:
        raise ValueError("an encryption key is not 32 bytes long")
    return raw
