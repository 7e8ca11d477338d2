"""The query and the format of a page of results."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.reading.cursors import decode_result_cursor
from gateway.routes.dependencies import LIST_COST
from gateway.routes.results import MAX_LIMIT, _encode_page_end, _page_cost, choose_media_type
from jobs.results import Cursor
from tests.support.fakes.routes import make_http_request

OFFERED = ("application/json", "application/x-ndjson", "text/csv")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV ; header=present", "text/csv"),
        ("application/json;q=0.5, text/csv", "text/csv"),
        ("application/x-ndjson; q=0.9, text/csv;q=0.8", "application/x-ndjson"),
        ("text/csv;q=0", "application/json"),
        ("text/csv;q=0, application/x-ndjson;q=0.1", "application/x-ndjson"),
        ("text/csv, application/x-ndjson", "text/csv"),
    ],
)
def test_the_client_s_preferred_type_is_chosen(accept: str, chosen: str) -> None:
    """JSON if it names none that is offered; the first of equal ones."""
    assert choose_media_type(accept, *OFFERED) == chosen


@given(st.text(max_size=60))
def test_any_accept_header_chooses_an_offered_type(accept: str) -> None:
    """No header is an error."""
    assert choose_media_type(accept, *OFFERED) in OFFERED


@pytest.mark.parametrize(
    ("query", "cost"),
    [
        ("", 1), ("limit=1", 1), ("limit=249", 1), ("limit=250", 2), ("limit=1000", 5),
        ("limit=1&status=failed", LIST_COST), ("limit=x", LIST_COST), ("limit=-1", LIST_COST),
        ("limit=", LIST_COST), ("limit=99999999999999999999", LIST_COST), ("limit=%D9%A7", LIST_COST),
    ],
)  # fmt: skip
def test_a_page_costs_by_its_size(query: str, cost: int) -> None:
    """A filter may read everything for one result; a limit that is none is refused later, and costs the most."""
    assert _page_cost(make_http_request(query=query)) == cost


@given(st.integers(1, MAX_LIMIT), st.integers(1, MAX_LIMIT))
def test_a_larger_page_never_costs_less(first: int, second: int) -> None:
    """And none costs more than a list."""
    small, large = (_page_cost(make_http_request(query=f"limit={limit}")) for limit in sorted((first, second)))
    assert 1 <= small <= large <= LIST_COST


@pytest.mark.parametrize("cursor", [None, Cursor(3, 7)])
@pytest.mark.parametrize("complete", [True, False])
def test_the_end_of_a_page_closes_its_json(cursor: Cursor | None, complete: bool) -> None:
    """The cursor continues right there."""
    reader: Any = SimpleNamespace(next_cursor=cursor, complete=complete)
    page = orjson.loads(b'{"data":[' + _encode_page_end(reader))
    assert (page["data"], page["complete"]) == ([], complete)
    assert (page["next_cursor"] and decode_result_cursor(page["next_cursor"])) == cursor
