from __future__ import annotations

import contextlib
import gzip
import os
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError, UnsupportedEncodingError
from gateway.submission.body import FREE_EXPANSION, BodyChunks, BodyLimits
from gateway.submission.types import IncomingRequest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024
PACK = {"gzip": gzip.compress, "zstd": zstd.compress}


async def arrive(pending: list[bytes]) -> AsyncIterator[bytes]:
    """Yield the chunks of a body, and take them from the list."""
    while pending:
        yield pending.pop(0)


def request(encoding: str, chunks: Iterable[bytes]) -> IncomingRequest:
    """Return a request whose body arrives in these chunks."""
    headers = {"content-type": "application/json", "content-encoding": encoding}
    return IncomingRequest("/", headers, arrive(list(chunks)))


async def read(encoding: str, chunks: Iterable[bytes], limits: BodyLimits) -> bytes:
    """Return the whole body."""
    return b"".join([piece async for piece in BodyChunks(request(encoding, chunks), limits)])


def cut(data: bytes, size: int) -> list[bytes]:
    """Split data into chunks of `size` bytes."""
    return [data[at : at + size] for at in range(0, len(data), size)] or [b""]


@pytest.mark.parametrize("encoding", list(PACK))
@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("parts", [1, 3])
async def test_a_compressed_body_is_what_it_was(encoding: str, size: int, parts: int) -> None:
    """However it is cut on the way, and also where files were joined end to end."""
    content = os.urandom(5_000) + b"x" * 60_000
    packed = b"".join(PACK[encoding](content) for _ in range(parts))

    assert await read(encoding, cut(packed, size), BodyLimits(MIB)) == content * parts


@pytest.mark.parametrize("encoding", list(PACK))
async def test_the_limit_is_for_what_comes_out(encoding: str) -> None:
    """The limit in bytes is the same as without compression."""
    content = os.urandom(1000)
    assert await read(encoding, [PACK[encoding](content)], BodyLimits(1000)) == content
    with pytest.raises(GatewayError, match="payload_too_large"):
        await read(encoding, [PACK[encoding](content + b"x")], BodyLimits(1000))


@pytest.mark.parametrize("encoding", list(PACK))
@pytest.mark.parametrize("size", [50, 65_536])
async def test_a_bomb_is_stopped_before_it_fills_the_memory(encoding: str, size: int) -> None:
    """A gigabyte of zeros is refused for its ratio after a few megabytes, whatever the limit on the size."""
    packed = PACK[encoding](bytes(256 * MIB))
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(GatewayError) as caught:
        await read(encoding, cut(packed, size), BodyLimits(1024 * MIB))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.code == "payload_too_large"
    assert "100 times" in caught.value.detail
    assert peak < 40 * MIB
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("encoding", list(PACK))
async def test_a_bomb_behind_a_long_honest_part_is_stopped_too(encoding: str) -> None:
    """A low ratio of the first part does not allow a high one of the next."""
    packed = PACK[encoding](os.urandom(4 * MIB)) + PACK[encoding](bytes(128 * MIB))
    with pytest.raises(GatewayError, match="payload_too_large"):
        await read(encoding, cut(packed, 65_536), BodyLimits(1024 * MIB))


@pytest.mark.parametrize("encoding", list(PACK))
async def test_short_bodies_may_be_as_regular_as_they_like(encoding: str) -> None:
    """A megabyte is free."""
    content = b" " * FREE_EXPANSION
    assert await read(encoding, [PACK[encoding](content)], BodyLimits(2 * MIB)) == content


@pytest.mark.parametrize("encoding", list(PACK))
@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "tail"])
async def test_a_damaged_body_is_refused_whole(encoding: str, damage: str) -> None:
    """A truncated body is never accepted."""
    packed = PACK[encoding](os.urandom(3000))
    broken = {"cut": packed[:-5], "empty": b"", "garbage": b"{}" * 50, "tail": packed + b"garbage!!"}[damage]
    with pytest.raises(GatewayError) as caught:
        await read(encoding, [broken], BodyLimits(MIB))
    assert caught.value.code == "bad_content_encoding"


@given(st.sampled_from(list(PACK)), st.binary(max_size=200))
@settings(max_examples=200)
async def test_no_bytes_at_all_break_it(encoding: str, data: bytes) -> None:
    """It answers with a problem, or with bytes; with no other error."""
    with contextlib.suppress(GatewayError):
        assert len(await read(encoding, cut(data, 3), BodyLimits(10_000))) <= 10_000


@pytest.mark.parametrize("encoding", list(PACK))
@pytest.mark.parametrize("size", [50, 65_536])
async def test_empty_parts_without_end_are_refused(encoding: str, size: int) -> None:
    """Each costs work and brings nothing."""
    packed = PACK[encoding](b"{}") + PACK[encoding](b"") * 20_000
    with pytest.raises(GatewayError) as caught:
        await read(encoding, cut(packed, size), BodyLimits(MIB))
    assert (caught.value.code, "many small frames" in caught.value.detail) == ("bad_content_encoding", True)


@pytest.mark.parametrize("encoding", list(PACK))
async def test_many_parts_of_a_fair_size_are_read(encoding: str) -> None:
    """Block-wise compressors write such bodies."""
    block = os.urandom(2000)
    assert await read(encoding, cut(PACK[encoding](block) * 400, 65_536), BodyLimits(MIB)) == block * 400


async def test_a_compressed_body_is_not_longer_than_what_comes_out_of_it() -> None:
    """A stream that brings nothing ends."""
    packed = gzip.compress(b"x")[:10] + b"\x00\x00\x00\xff\xff" * 700_000
    with pytest.raises(GatewayError, match="payload_too_large"):
        await read("gzip", cut(packed, 65_536), BodyLimits(MIB))


@pytest.mark.parametrize("rest", [0, 2])
async def test_a_refusal_reads_what_is_still_to_come_and_no_more(rest: int) -> None:
    """A client that still sends gets the answer; one that has sent everything is not waited for."""
    pending = [b"x" * 2000, *[b"y"] * rest]
    chunks = BodyChunks(IncomingRequest("/", {}, arrive(pending)), BodyLimits(9))
    with pytest.raises(GatewayError, match="payload_too_large"):
        await anext(chunks)
    await chunks.drain()
    assert pending == []


async def test_other_encodings_are_refused_by_name() -> None:
    """415, and which would do."""
    with pytest.raises(UnsupportedEncodingError) as caught:
        await read("br", [b"x"], BodyLimits(10))
    assert caught.value.supported == ("gzip", "zstd")
