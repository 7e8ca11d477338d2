from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest

from gateway.errors import GatewayError
from gateway.submission.body import read_body
from gateway.submission.headers import preferred_wait, read_idempotency_key, trace_context
from gateway.submission.types import IncomingRequest


def request(
    headers: dict[str, str] | None = None, chunks: Iterable[bytes | None] = (b"{}",), path: str = "/v1/jobs"
) -> IncomingRequest:
    """Return a request whose body arrives in these chunks; None is the end of the connection."""

    async def arrive() -> AsyncIterator[bytes]:
        for chunk in chunks:
            if chunk is None:
                raise ConnectionResetError
            yield chunk

    return IncomingRequest(path, {"content-type": "application/json", **(headers or {})}, arrive())


@pytest.mark.anyio
async def test_a_body_within_the_limit_is_read_whole() -> None:
    """Chunks are joined; the limit itself is allowed."""
    assert await read_body(request(chunks=[b"ab", b"", b"cd"]), 4) == b"abcd"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers", [{}, {"content-length": "6"}, {"content-length": "6", "expect": "100-continue"}]
)
async def test_a_body_above_the_limit_is_refused(headers: dict[str, str]) -> None:
    """Declared or not, no more than the limit is kept."""
    with pytest.raises(GatewayError) as caught:
        await read_body(request(headers, [b"abc", b"def"]), 4)

    assert caught.value.code == "payload_too_large"


@pytest.mark.anyio
async def test_a_client_that_goes_away_ends_the_reading() -> None:
    """No half a body is taken for a whole first."""
    with pytest.raises(ConnectionResetError):
        await read_body(request(chunks=[b"abc", None]), 10)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": ""},
        {"content-type": "text/plain"},
        {"content-type": "application/x-ndjson"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-encoding": "br"},
    ],
)
async def test_other_media_types_are_refused(headers: dict[str, str]) -> None:
    """415 before a byte is read."""
    with pytest.raises(GatewayError) as caught:
        await read_body(request(headers, [None]), 10)

    assert caught.value.code == "unsupported_media_type"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", 'application/json;charset="UTF-8"']
)
async def test_json_in_utf_8_is_read(kind: str) -> None:
    """However it is spelled."""
    assert await read_body(request({"content-type": kind}), 10) == b"{}"


def test_a_request_without_a_key_is_not_idempotent() -> None:
    """The header is optional."""
    assert read_idempotency_key(request(), b"{}") is None


def test_a_key_is_bound_to_path_and_body_and_never_kept() -> None:
    """The same key with another body or path is another request."""
    headers = {"idempotency-key": "secret"}
    first = read_idempotency_key(request(headers), b"{}")
    same = read_idempotency_key(request(headers), b"{}")
    body = read_idempotency_key(request(headers), b"{ }")
    path = read_idempotency_key(request(headers, path="/v1/extract"), b"{}")

    assert first is not None
    assert same is not None
    assert body is not None
    assert path is not None
    assert "secret" not in repr(first)
    assert first.key_hash == same.key_hash == body.key_hash == path.key_hash
    assert first.body_sha == same.body_sha
    assert len({first.body_sha, body.body_sha, path.body_sha}) == 3
    assert first.nonce != same.nonce


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ключ".encode().decode("latin-1")])
def test_a_key_that_is_no_token_is_refused(key: str) -> None:
    """1 to 255 visible ASCII characters."""
    with pytest.raises(GatewayError) as caught:
        read_idempotency_key(request({"idempotency-key": key}), b"{}")

    assert caught.value.violations[0][0] == "header:Idempotency-Key"


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=10", 10),
        ("respond-async, wait=10", 10),
        ('Wait = "7" ; foo=bar', 7),
        ("wait=9999999", 60),
        ("wait=0", 0),
        ("wait=-1", None),
        ("wait=soon", None),
        ("await=5", None),
        ("", None),
    ],
)
def test_prefer_wait_is_understood(prefer: str, seconds: int | None) -> None:
    """RFC 7240: an unknown preference is not an error."""
    assert preferred_wait(prefer, 60) == seconds


def test_only_a_well_formed_trace_context_is_handed_on() -> None:
    """The ledger gets 55 characters of hex and dashes, or nothing."""
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    assert trace_context({"traceparent": good}) == good
    assert trace_context({"traceparent": good + "x"}) == ""
    assert trace_context({}) == ""
