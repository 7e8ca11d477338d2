from __future__ import annotations

import base64
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from jobs import codec as codec_module
from jobs.codec import MAX_BLOB_BYTES, Codec, CodecError, make_codec
from jobs.settings import Settings


def key() -> str:
    """Return a new AES-256 key in the setting's format."""
    return base64.b64encode(os.urandom(32)).decode()


@given(st.binary(max_size=2000), st.integers(0, 2), st.booleans())
def test_what_is_encoded_comes_back(blob: bytes, keys: int, derive: bool) -> None:
    """Any bytes survive, with and without encryption, read at once or in pieces."""
    codec = Codec((key() for _ in range(keys)), derive=derive)
    stored = codec.encode(blob, "in:job:1")
    assert codec.decode(stored, "in:job:1") == blob
    packed = codec.unseal(stored, "in:job:1")
    assert (packed.size, b"".join(codec.iter_chunks(packed))) == (len(blob), blob)


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
    compressors: list[object] = []
    real = zstandard.ZstdCompressor

    def compressor(level: int) -> zstandard.ZstdCompressor:
        compressors.append(level)
        return real(level=level)

    monkeypatch.setattr("jobs.codec.zstandard.ZstdCompressor", compressor)
    codec = Codec()
    blobs = [os.urandom(2000) * n for n in range(1, 33)]

    def there_and_back(blob: bytes) -> bytes:
        return codec.decode(codec.encode(blob, "p"), "p")

    for blob in blobs:
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(there_and_back, blob).result() == blob
    assert len(compressors) == 1
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(there_and_back, blobs * 20)) == blobs * 20
    assert len(compressors) <= 8


PLAIN = b"\x00"
SKIPPED = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"


def frame(blob: bytes, *, sized: bool = True) -> bytes:
    """Return a zstd frame."""
    return zstandard.ZstdCompressor(write_content_size=sized).compress(blob)


@pytest.mark.parametrize(
    "packed",
    [
        frame(bytes(MAX_BLOB_BYTES + 1)),
        frame(b"text" * 9, sized=False),
        frame(b"text") + frame(b"text"),
        SKIPPED,
        SKIPPED + frame(b"text"),
        frame(b"text") + b"rubbish",
        frame(b"") + b"rubbish",
        frame(b"") + frame(b"text"),
        frame(b"text")[:-1],
        b"",
        b"\x28",
        b"rubbish that is no frame",
    ],
    ids=str,
)
def test_only_one_frame_that_says_its_size_is_read(packed: bytes) -> None:
    """A blob is one zstd frame of a size that it says, and of no more than the limit; all else is damage."""
    with pytest.raises(CodecError):
        Codec().decode(PLAIN + packed, "p")


@given(st.integers(0, 3000), st.integers(0, 2000), st.binary(max_size=40))
@example(size=0, limit=0, tail=b"(")  # the first byte of another frame
def test_nothing_decodes_beyond_the_limit(size: int, limit: int, tail: bytes) -> None:
    """Whatever a frame says, no more than the limit of it is ever made."""
    stored = PLAIN + frame(bytes(size)) + tail
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec_module, "MAX_BLOB_BYTES", limit)
        try:
            blob = Codec().decode(stored, "p")
        except CodecError:
            assert size > limit or tail
        else:
            assert len(blob) == size <= limit
            assert not tail


@given(st.binary(max_size=60))
def test_a_damaged_frame_is_an_error_in_pieces_too(damage: bytes) -> None:
    """Reading in chunks ends with an error if the whole would be rejected, and never beyond its size."""
    good = frame(bytes(5000) + os.urandom(100))
    codec = Codec()
    stored = PLAIN + good[: len(good) - len(damage)] + damage
    try:
        packed = codec.unseal(stored, "p")
        read = sum(map(len, codec.iter_chunks(packed)))
    except CodecError:
        return
    assert read == packed.size


def test_what_could_not_be_read_again_is_not_stored() -> None:
    """A blob beyond the limit is refused when it is written, not found lost when it is read."""
    with pytest.raises(CodecError, match="at most"):
        Codec().encode(bytes(MAX_BLOB_BYTES + 1), "out:job:0")


def test_a_job_has_its_own_key() -> None:
    """Blobs of one job share a key, those of another job have another, and all formats are read."""
    secret = key()
    old, new = Codec([secret]), Codec([secret], derive=True)
    sealed = {
        associated_data: new.encode(b"text", associated_data)
        for associated_data in ("in:job_a:0", "out:job_a:1", "in:job_b:0", "ep:ep_a")
    }
    for associated_data, stored in sealed.items():
        assert stored[:1] == b"\x02"
        assert old.decode(stored, associated_data) == b"text"  # reading does not depend on the way of writing
    assert new.decode(old.encode(b"text", "in:job_a:0"), "in:job_a:0") == b"text"
    assert new.decode(Codec().encode(b"text", "in:job_a:0"), "in:job_a:0") == b"text"
    assert new._derived.cache_info().currsize == 3
    with pytest.raises(CodecError, match="was moved"):
        new.decode(sealed["in:job_a:0"], "in:job_a:1")


def test_encryption_that_is_required_refuses_what_is_plain() -> None:
    """Nobody who can write to Redis but has no key can store anything that is read."""
    secret = key()
    forged = Codec().encode(b'{"url": "https://evil.example"}', "ep:ep_a")
    assert Codec([secret]).decode(forged, "ep:ep_a")
    strict = Codec([secret], required=True)
    with pytest.raises(CodecError, match="GLEANER_ENCRYPTION_REQUIRED"):
        strict.decode(forged, "ep:ep_a")
    assert strict.decode(Codec([secret]).encode(b"text", "p"), "p") == b"text"


def test_settings_say_how_blobs_are_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Format and requirement come from the environment; required encryption without a key is refused at start."""
    monkeypatch.setenv("GLEANER_ENCRYPTION_REQUIRED", "true")
    with pytest.raises(ValueError, match="GLEANER_ENCRYPTION_KEYS"):
        make_codec(Settings())
    monkeypatch.setenv("GLEANER_ENCRYPTION_KEYS", key())
    assert make_codec(Settings()).encode(b"text", "p")[:1] == b"\x01"
    monkeypatch.setenv("GLEANER_ENCRYPTION_FORMAT", "2")
    assert make_codec(Settings()).encode(b"text", "p")[:1] == b"\x02"
    monkeypatch.setenv("GLEANER_ENCRYPTION_FORMAT", "3")
    with pytest.raises(ValueError, match="encryption_format"):
        Settings()
