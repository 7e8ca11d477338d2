from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.reading import cursors
from jobs.ledger import JobPosition
from jobs.results import Cursor

numbers = st.integers(0, 999_999_999)


@given(numbers, numbers)
def test_a_cursor_comes_back_as_it_went(shard: int, offset: int) -> None:
    """Any position survives, in characters that a URL does not escape."""
    text = cursors.encode_result_cursor(Cursor(shard, offset))

    assert cursors.decode_result_cursor(text) == Cursor(shard, offset)
    assert text.replace("-", "").replace("_", "").isalnum()


def test_no_cursor_is_the_beginning() -> None:
    """The first page needs none."""
    assert cursors.decode_result_cursor(None) == Cursor(0, 0)


_NAMES = st.from_regex(r"[0-9a-hjkmnp-tv-z]{26}", fullmatch=True)


@given(st.integers(0, 10**15 - 1), _NAMES)
def test_a_position_in_the_list_of_jobs_comes_back_as_it_went(created: int, name: str) -> None:
    """Likewise; and neither kind of cursor passes for the other."""
    position = JobPosition(created, f"job_{name}")
    text = cursors.encode_job_cursor(position)

    assert cursors.decode_job_cursor(text) == position
    assert text.replace("-", "").replace("_", "").isalnum()
    assert isinstance(decode_or_problem(text), GatewayError)
    with pytest.raises(GatewayError):
        cursors.decode_job_cursor(cursors.encode_result_cursor(Cursor(created % 10**9, 0)))


def decode_or_problem(text: str) -> Cursor | GatewayError:
    """Decode a result cursor; return the GatewayError if it is refused."""
    try:
        return cursors.decode_result_cursor(text)
    except GatewayError as error:
        return error


@given(st.text() | st.binary(max_size=40).map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    """Nothing a client invents, base64 or not, is an internal error or a negative position."""
    decoded = decode_or_problem(text)
    with pytest.raises(GatewayError, match="bad_cursor"):
        cursors.decode_job_cursor(text)

    if isinstance(decoded, GatewayError):
        assert decoded.code == "bad_cursor"
    else:
        assert min(decoded.shard, decoded.offset) >= 0


@pytest.mark.parametrize(
    "text", ["", "r1:0:0", "cjE6LTE6MA", "cjI6MDow", base64.b64encode(b"r1:1:1111111111").decode(), "c" * 1000]
)
def test_near_misses_are_refused(text: str) -> None:
    """Plain, negative, another version, too large, too long."""
    with pytest.raises(GatewayError):
        cursors.decode_result_cursor(text)


@given(st.integers(0, 10**15 - 1), numbers)
def test_a_position_in_deliveries_comes_back_as_it_went(created: int, number: int) -> None:
    """Without a cursor every list begins at its beginning."""
    assert cursors.decode_delivery_cursor(cursors.encode_delivery_cursor((created, number))) == (created, number)
    assert (cursors.decode_delivery_cursor(None), cursors.decode_job_cursor(None)) == (None, None)
