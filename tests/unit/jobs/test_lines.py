from __future__ import annotations

import json

import orjson
from hypothesis import given
from hypothesis import strategies as st

from jobs.lines import escape_line_breaks

BREAKS = "\x0a\x0b\x0c\x0d\x1c\x1d\x1e\x85\u2028\u2029"


@given(st.recursive(st.text() | st.text(BREAKS), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_stays_on_one_line_and_says_the_same(value: object) -> None:
    """Python's splitlines sees one line, and the value is unchanged."""
    line = escape_line_breaks(orjson.dumps(value))

    assert len(line.decode().splitlines()) == 1
    assert json.loads(line) == value


def test_other_bytes_stay() -> None:
    """Neighbours of the three characters in UTF-8 are not touched."""
    line = orjson.dumps("\u2027\u202a\u0084\u0086\u00e2\u00c2")

    assert escape_line_breaks(line) == line
