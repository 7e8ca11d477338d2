"""Encodes blobs for Redis: compressed with zstandard, encrypted with AES-GCM if keys are configured.

Stored form: one byte of format, then the body. `0`: zstd. `1`: 4 bytes of key id, 12 of nonce, AES-GCM of zstd.
`2`: as `1`, under a key derived from the configured one for each job (or other owner of blobs), so that no key
seals enough blobs for two random nonces to collide. The associated data of a blob (kind, job, shard) is
authenticated with it, so that a blob cannot be moved.

The zstd frame contains the size of the blob; no blob is decompressed beyond that or beyond `MAX_BLOB_BYTES`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Generic, TypeVar

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from jobs.settings import Settings

_PLAIN, _SEALED, _DERIVED = b"\x00", b"\x01", b"\x02"
_LEVEL = 3  # zstd's default: 300 MB/s and a third of the size on English text
MAX_BLOB_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 256 * 1024
_WINDOW_BYTES = 8 * 1024 * 1024
"""Maximum window of a frame that is read in chunks; the codec's own frames need 2 MiB."""
_MAGIC = b"\x28\xb5\x2f\xfd"
_DERIVED_KEYS: Final = 1024
"""Size of the cache of derived keys, about a kilobyte each; deriving one takes 4 us."""
_JOB_KINDS = frozenset({"in", "out", "part", "opts", "meta"})


class CodecError(Exception):
    """A blob cannot be decoded: damaged, moved, too large, or sealed with a key that is not configured."""


T = TypeVar("T")
R = TypeVar("R")


class _Pool(Generic[T]):
    """A pool of objects that only one thread may use at a time; it grows to the number used at once.

    A zstd context takes half a megabyte and more, and a worker has a thread for each shard that it holds.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._free: list[T] = []

    def use(self, work: Callable[[T], R]) -> R:
        try:
            resource = self._free.pop()
        except IndexError:
            resource = self._make()
        result = work(resource)
        self._free.append(resource)  # not after an error
        return result


@dataclass(frozen=True, slots=True)
class Packed:
    """A blob that is authenticated and still compressed.

    Attributes:
        size: its decompressed size in bytes, as its frame says; at most `MAX_BLOB_BYTES`.
    """

    associated_data: str
    size: int
    body: bytes


class Codec:
    """Compresses and, with keys, seals blobs. Safe to share between threads.

    Args:
        keys: AES-256 keys, base64 of 32 bytes; the first seals, all open. None: blobs are only compressed.
        derive: seal with a key per job (format 2), which processes of older versions cannot open.
        required: reject blobs that are not sealed.

    Raises:
        ValueError: a key is not base64 of 32 bytes.
    """

    def __init__(self, keys: Iterable[str] = (), *, derive: bool = False, required: bool = False) -> None:
        self._raw: dict[bytes, bytes] = {}
        for key in keys:
            raw = _key_bytes(key)
            self._raw[hashlib.sha256(raw).digest()[:4]] = raw
        self._keys = {key_id: AESGCM(raw) for key_id, raw in self._raw.items()}
        self._first = next(iter(self._keys), None)
        self._derive = derive
        self._required = required
        self._derived = lru_cache(_DERIVED_KEYS)(self._derive_key)
        self._compressors = _Pool(lambda: zstandard.ZstdCompressor(level=_LEVEL))
        self._decompressors = _Pool(zstandard.ZstdDecompressor)

    def encode(self, blob: bytes, associated_data: str) -> bytes:
        """Return the stored form of a blob.

        Raises:
            CodecError: it is larger than `MAX_BLOB_BYTES`.
        """
        if len(blob) > MAX_BLOB_BYTES:
            raise CodecError(
                f"blob of {associated_data} has {len(blob)} bytes; at most {MAX_BLOB_BYTES} can be stored"
            )
        packed = self._compressors.use(lambda compressor: compressor.compress(blob))
        if self._first is None:
            return _PLAIN + packed
        nonce = os.urandom(12)
        key, kind = (
            (self._derived(self._first, _key_owner(associated_data)), _DERIVED)
            if self._derive
            else (self._keys[self._first], _SEALED)
        )
        return kind + self._first + nonce + key.encrypt(nonce, packed, associated_data.encode())

    def decode(self, stored: bytes, associated_data: str) -> bytes:
        """Return the blob of a stored form.

        Raises:
            CodecError: damaged, moved, too large, or not sealed although that is required.
        """
        return self.unpack(self.unseal(stored, associated_data))

    def pack(self, blob: bytes, associated_data: str) -> Packed:
        """Compress a blob that is not stored, as `unseal` would return it."""
        return Packed(
            associated_data, len(blob), self._compressors.use(lambda compressor: compressor.compress(blob))
        )

    def unseal(self, stored: bytes, associated_data: str) -> Packed:
        """Return the blob authenticated and still compressed, in no more memory than `stored`.

        Raises:
            CodecError: as `decode`.
        """
        body = self._decrypt(stored, associated_data)
        try:
            size = zstandard.frame_content_size(body)
        except zstandard.ZstdError as error:
            raise _damage_error(associated_data) from error
        if size < 0 or body[:4] != _MAGIC:  # no size, or a skippable frame
            raise _damage_error(associated_data)
        if size > MAX_BLOB_BYTES:
            raise CodecError(
                f"blob of {associated_data} would have {size} bytes; at most {MAX_BLOB_BYTES} are read"
            )
        return Packed(associated_data, size, body)

    def unpack(self, packed: Packed) -> bytes:
        """Return the whole blob.

        Raises:
            CodecError: it is damaged or has more than one frame.
        """
        if packed.size == 0:
            return self._unpack_empty(packed)
        try:
            return self._decompressors.use(
                lambda decompressor: decompressor.decompress(packed.body, allow_extra_data=False)
            )
        except zstandard.ZstdError as error:
            raise _damage_error(packed.associated_data) from error

    def _unpack_empty(self, packed: Packed) -> bytes:
        """Check an empty blob's frame, which `decompress` does not read; a stream accepts the start of another."""
        frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            blob = frame.decompress(packed.body)
        except zstandard.ZstdError as error:
            raise _damage_error(packed.associated_data) from error
        if blob or frame.unused_data or not frame.eof:
            raise _damage_error(packed.associated_data)
        return b""

    def iter_chunks(self, packed: Packed) -> Iterator[bytes]:
        """Yield the blob in chunks of at most 256 KiB, so that the whole is never in memory.

        Raises:
            CodecError: as `unpack`, perhaps after some chunks.
        """
        stream = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).stream_reader(
            packed.body, read_across_frames=True
        )
        left = packed.size
        try:
            while chunk := stream.read(min(_CHUNK_BYTES, left + 1)):
                left -= len(chunk)
                if left < 0:
                    break
                yield chunk
        except zstandard.ZstdError as error:
            raise _damage_error(packed.associated_data) from error
        if left:
            raise _damage_error(packed.associated_data)

    def _decrypt(self, stored: bytes, associated_data: str) -> bytes:
        kind, body = stored[:1], stored[1:]
        if kind == _PLAIN:
            if self._required:
                raise CodecError(
                    f"blob of {associated_data} is not encrypted, and GLEANER_ENCRYPTION_REQUIRED is set"
                )
            return body
        if kind not in (_SEALED, _DERIVED):
            raise CodecError(f"blob of {associated_data} has an unknown format")
        key_id = body[:4]
        if key_id not in self._keys:
            raise CodecError(
                f"blob of {associated_data} is sealed with a key that GLEANER_ENCRYPTION_KEYS does not hold"
            )
        key = self._keys[key_id] if kind == _SEALED else self._derived(key_id, _key_owner(associated_data))
        try:
            return key.decrypt(body[4:16], body[16:], associated_data.encode())
        except (InvalidTag, ValueError) as error:  # ValueError: too short for a nonce
            raise CodecError(f"blob of {associated_data} is damaged or was moved") from error

    def _derive_key(self, key_id: bytes, owner: str) -> AESGCM:
        info = b"gleaner blobs 2:" + owner.encode()
        return AESGCM(HKDF(SHA256(), 32, salt=None, info=info).derive(self._raw[key_id]))


def make_codec(settings: Settings) -> Codec:
    """Return the codec that the settings describe.

    Raises:
        ValueError: a key is invalid, or encryption is required and there is no key.
    """
    if settings.encryption_required and not settings.encryption_keys:
        raise ValueError("GLEANER_ENCRYPTION_REQUIRED is set without GLEANER_ENCRYPTION_KEYS")
    return Codec(
        (key.get_secret_value() for key in settings.encryption_keys),
        derive=settings.encryption_format == 2,  # the format's number
        required=settings.encryption_required,
    )


def _key_owner(associated_data: str) -> str:
    """Return the owner of a derived key: the job of a job's blob, else the associated data itself."""
    kind, _, rest = associated_data.partition(":")
    return rest.partition(":")[0] if kind in _JOB_KINDS else associated_data


def _damage_error(associated_data: str) -> CodecError:
    return CodecError(f"blob of {associated_data} is damaged")


def _key_bytes(key: str) -> bytes:
    try:
        raw = base64.b64decode(key, validate=True)
    except binascii.Error as error:
        raise ValueError("an encryption key is not base64") from error
    if len(raw) != 32:
        raise ValueError("an encryption key is not 32 bytes long")
    return raw
