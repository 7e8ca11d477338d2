"""Turns blobs into what the store keeps: compressed with zstandard, encrypted with AES-GCM where keys are set.

Stored form: one byte of format, then the body. `0`: zstd. `1`: 4 bytes of key id, 12 of nonce, AES-GCM of zstd.
`2`: as `1`, under a key that is derived from the configured one for each job (or other owner of blobs), so that no
key ever seals so many blobs that two random nonces could be the same.
The place a blob belongs to (job, kind, shard) is authenticated with it, so that a blob cannot be moved.

The zstd frame says the size of the blob, and a blob is never decompressed beyond that or beyond `MAX_BLOB_BYTES`.
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
_LEVEL = 3  # zstd's own default: 300 MB/s and a third of the size on English text
MAX_BLOB_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 256 * 1024
_WINDOW_BYTES = 8 * 1024 * 1024
"""Most memory a frame may ask for to be read piece by piece; ours ask for 2 MiB."""
_MAGIC = b"\x28\xb5\x2f\xfd"
_DERIVED_KEYS: Final = 1024
"""Derived keys that are kept ready, about a kilobyte each; deriving one takes 4 us."""
_OF_JOBS = frozenset({"in", "out", "part", "opts", "meta"})


class CodecError(Exception):
    """A blob could not be read: damaged, moved, too large, or sealed with a key that is not configured."""


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


@dataclass(frozen=True, slots=True)
class Packed:
    """A blob that was authenticated and is still compressed.

    Attributes:
        size: its bytes once decompressed, as its frame says; at most `MAX_BLOB_BYTES`.
    """

    place: str
    size: int
    body: bytes


class Codec:
    """Compresses and, with keys, seals blobs. Safe to share between threads.

    Args:
        keys: AES-256 keys, base64 of 32 bytes; the first seals, all open. None: blobs are only compressed.
        derive: seal with a key for each job (format 2), which processes that do not know that format cannot open.
        required: refuse blobs that are not sealed.

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
        self._derived = lru_cache(_DERIVED_KEYS)(self._derived_key)
        self._compressors = _Spare(lambda: zstandard.ZstdCompressor(level=_LEVEL))
        self._decompressors = _Spare(zstandard.ZstdDecompressor)

    def encode(self, blob: bytes, place: str) -> bytes:
        """Return the stored form of a blob that belongs to `place`.

        Raises:
            CodecError: it is larger than what can be read again.
        """
        if len(blob) > MAX_BLOB_BYTES:
            raise CodecError(f"blob of {place} has {len(blob)} bytes; at most {MAX_BLOB_BYTES} can be stored")
        packed = self._compressors.use(lambda one: one.compress(blob))
        if self._first is None:
            return _PLAIN + packed
        nonce = os.urandom(12)
        key, kind = (
            (self._derived(self._first, _owner(place)), _DERIVED)
            if self._derive
            else (self._keys[self._first], _SEALED)
        )
        return kind + self._first + nonce + key.encrypt(nonce, packed, place.encode())

    def decode(self, stored: bytes, place: str) -> bytes:
        """Return the blob again.

        Raises:
            CodecError: damaged, moved from another place, too large, or not sealed as it has to be.
        """
        return self.unpack(self.unseal(stored, place))

    def pack(self, blob: bytes, place: str) -> Packed:
        """Return what `unseal` would of a blob that is not stored."""
        return Packed(place, len(blob), self._compressors.use(lambda one: one.compress(blob)))

    def unseal(self, stored: bytes, place: str) -> Packed:
        """Return the blob authenticated and still compressed, in no more memory than `stored`.

        Raises:
            CodecError: as `decode`.
        """
        body = self._open(stored, place)
        try:
            size = zstandard.frame_content_size(body)
        except zstandard.ZstdError as error:
            raise _damaged(place) from error
        if size < 0 or body[:4] != _MAGIC:  # a size that is not said, or a frame to be skipped
            raise _damaged(place)
        if size > MAX_BLOB_BYTES:
            raise CodecError(f"blob of {place} would have {size} bytes; at most {MAX_BLOB_BYTES} are read")
        return Packed(place, size, body)

    def unpack(self, packed: Packed) -> bytes:
        """Return the whole blob.

        Raises:
            CodecError: it is damaged, or not the only frame.
        """
        if packed.size == 0:  # of which zstandard reads nothing at all
            return b"".join(self.iter_chunks(packed))
        try:
            return self._decompressors.use(lambda one: one.decompress(packed.body, allow_extra_data=False))
        except zstandard.ZstdError as error:
            raise _damaged(packed.place) from error

    def iter_chunks(self, packed: Packed) -> Iterator[bytes]:
        """Yield the blob in pieces of at most 256 KiB, so that it is never whole in memory.

        Raises:
            CodecError: as `unpack`; what came before it may have been read already.
        """
        stream = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).stream_reader(
            packed.body, read_across_frames=True
        )
        left = packed.size
        try:
            while piece := stream.read(min(_PIECE_BYTES, left + 1)):
                left -= len(piece)
                if left < 0:
                    break
                yield piece
        except zstandard.ZstdError as error:
            raise _damaged(packed.place) from error
        if left:
            raise _damaged(packed.place)

    def _open(self, stored: bytes, place: str) -> bytes:
        kind, body = stored[:1], stored[1:]
        if kind == _PLAIN:
            if self._required:
                raise CodecError(f"blob of {place} is not encrypted, and GLEANER_ENCRYPTION_REQUIRED is set")
            return body
        if kind not in (_SEALED, _DERIVED):
            raise CodecError(f"blob of {place} has an unknown format")
        key_id = body[:4]
        if key_id not in self._keys:
            raise CodecError(f"blob of {place} is sealed with a key that GLEANER_ENCRYPTION_KEYS does not hold")
        key = self._keys[key_id] if kind == _SEALED else self._derived(key_id, _owner(place))
        try:
            return key.decrypt(body[4:16], body[16:], place.encode())
        except (InvalidTag, ValueError) as error:  # ValueError: what is left of a cut blob is no nonce
            raise CodecError(f"blob of {place} is damaged or was moved") from error

    def _derived_key(self, key_id: bytes, owner: str) -> AESGCM:
        info = b"gleaner blobs 2:" + owner.encode()
        return AESGCM(HKDF(SHA256(), 32, salt=None, info=info).derive(self._raw[key_id]))


def make_codec(settings: Settings) -> Codec:
    """Return the codec that the settings describe.

    Raises:
        ValueError: a key is none, or encryption is required and there is no key.
    """
    if settings.encryption_required and not settings.encryption_keys:
        raise ValueError("GLEANER_ENCRYPTION_REQUIRED is set without GLEANER_ENCRYPTION_KEYS")
    return Codec(
        (key.get_secret_value() for key in settings.encryption_keys),
        derive=settings.encryption_format == 2,  # the format's number
        required=settings.encryption_required,
    )


def _owner(place: str) -> str:
    """Return what shares a derived key: the job of a job's blob, else the place alone."""
    kind, _, rest = place.partition(":")
    return rest.partition(":")[0] if kind in _OF_JOBS else place


def _damaged(place: str) -> CodecError:
    return CodecError(f"blob of {place} is damaged")


def _key_bytes(key: str) -> bytes:
    try:
        raw = base64.b64decode(key, validate=True)
    except binascii.Error as error:
        raise ValueError("an encryption key is not base64") from error
    if len(raw) != 32:
        raise ValueError("an encryption key is not 32 bytes long")
    return raw
