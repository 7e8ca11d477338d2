"""Types between text and model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.protocols import ROW_STEP, ShardRef, Span, Spans, Window, row_length

RUNNERS_UP = st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), max_size=3).map(tuple)
SPANS = st.lists(
    st.builds(Span, st.integers(0, 100), st.integers(0, 100), st.integers(0, 9), st.floats(0, 1), RUNNERS_UP)
)


@given(SPANS, st.integers(0, 5))
def test_spans_in_columns_are_the_same_spans(spans: list[Span], left_out: int) -> None:
    """By index from either end, by slice, and as a sequence."""
    columns = Spans(spans, left_out)
    assert list(columns) == spans
    assert columns[1:] == spans[1:]
    assert [columns[-n] for n in range(1, len(spans) + 1)] == spans[::-1]
    assert columns.left_out == left_out


@given(st.integers(1, 5000))
def test_a_padded_row_is_the_next_multiple(tokens: int) -> None:
    """Of which there are few; a row that has such a length is not padded."""
    padded = row_length(tokens)
    assert padded % ROW_STEP == 0
    assert 0 <= padded - tokens < ROW_STEP


def test_a_window_with_weight_takes_more_of_a_budget() -> None:
    """By its factor, before padding."""
    window = Window(ShardRef("a", 0), 0, ("a",), ("b",), (0.5,), flat=True, multi_label=False, row_tokens=20)
    assert window.cost == row_length(20)
    heavy = Window(
        ShardRef("a", 0), 0, ("a",), ("b",), (0.5,), flat=True, multi_label=False, row_tokens=20, weight=2.5
    )
    assert heavy.cost == row_length(50)
