from __future__ import annotations

import base64
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from jobs.codec import Codec, CodecError


def key() -> str:
    """A fresh AES-256 key as the setting holds it."""
    return base64.b64encode(os.urandom(32)).decode()


@given(st.binary(max_size=2000), st.integers(0, 2))
def test_what_is_encoded_comes_back(blob: bytes, keys: int) -> None:
    """Any bytes survive, with and without encryption."""
    codec = Codec(key() for _ in range(keys))
    assert codec.decode(codec.encode(blob, "in:job:1"), "in:job:1") == blob


def test_a_sealed_blob_hides_its_text_and_cannot_be_moved() -> None:
    """Encryption is bound to the place: another job's blob does not open, and nothing of the text is readable."""
    codec = Codec([key()])
    stored = codec.encode(b"marker-text" * 10, "in:job_a:0")
    assert b"marker" not in stored
    with pytest.raises(CodecError, match="was moved"):
        codec.decode(stored, "in:job_b:0")


def test_keys_rotate() -> None:
    """A new first key seals; the old one still opens; without it the error says which setting lacks it."""
    old, new = key(), key()
    stored = Codec([old]).encode(b"text", "p")
    assert Codec([new, old]).decode(stored, "p") == b"text"
    with pytest.raises(CodecError, match="GLEANER_ENCRYPTION_KEYS"):
        Codec([new]).decode(stored, "p")


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"\x07" + b[1:], lambda b: b[:5] + b"xx" + b[7:]])
@pytest.mark.parametrize("keys", [(), (key(),)])
def test_damage_is_an_error(damage: object, keys: tuple[str, ...]) -> None:
    """A cut, foreign or altered blob is refused, never half read."""
    codec = Codec(keys)
    stored = codec.encode(os.urandom(100), "p")
    with pytest.raises(CodecError):
        codec.decode(damage(stored), "p")  # type: ignore[operator]


def test_a_bad_key_is_said_at_start() -> None:
    """Not base64, or not 32 bytes: a clear error."""
    with pytest.raises(ValueError, match="base64"):
        Codec(["*"])
    with pytest.raises(ValueError, match="32 bytes"):
        Codec(["AAAA"])


def test_threads_share_what_only_one_may_use_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A context is half a megabyte: there are as many as were in use at once, however many threads there are."""
    made: list[object] = []
    real = zstandard.ZstdCompressor

    def compressor(level: int) -> zstandard.ZstdCompressor:
        made.append(level)
        return real(level=level)

    monkeypatch.setattr("jobs.codec.zstandard.ZstdCompressor", compressor)
    codec = Codec()
    blobs = [os.urandom(2000) * n for n in range(1, 33)]

    def there_and_back(blob: bytes) -> bytes:
        return codec.decode(codec.encode(blob, "p"), "p")

    for blob in blobs:
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(there_and_back, blob).result() == blob
    assert len(made) == 1
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(there_and_back, blobs * 20)) == blobs * 20
    assert len(made) <= 8
