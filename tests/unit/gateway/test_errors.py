from __future__ import annotations

from gateway.errors import GatewayError, UnsupportedEncodingError


def test_the_message_of_the_exception_is_its_code() -> None:
    """A traceback quotes nothing of the request."""
    assert str(GatewayError("validation_failed", "secret detail", [("/secret", "x")])) == "validation_failed"


def test_an_unsupported_encoding_names_the_supported_ones() -> None:
    """The detail says which encodings would do."""
    error = UnsupportedEncodingError(("gzip", "zstd"))

    assert (error.code, error.detail) == (
        "unsupported_media_type",
        "the Content-Encoding must be gzip, zstd or absent",
    )
