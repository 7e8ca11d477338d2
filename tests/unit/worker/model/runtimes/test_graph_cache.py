from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.model.runtimes.graph_cache import MAX_TOKENS, RECORD_AFTER, GraphCache, Shape, padded_shape
from worker.protocols import EngineBroken, OutOfMemory

ONE, OTHER, THIRD = (Shape(rows, 32, 32, 8) for rows in (1, 2, 3))


class Recorder:
    """Returns a recording for every shape, or raises once for some of them."""

    def __init__(self, failing: dict[Shape, Exception] | None = None) -> None:
        self.shapes: list[Shape] = []
        self.failing = failing or {}

    def __call__(self, shape: Shape) -> str:
        self.shapes.append(shape)
        if shape in self.failing:
            raise self.failing.pop(shape)
        return f"recording of {shape.rows}"


def get_repeatedly(cache: GraphCache[str], shape: Shape, times: int = RECORD_AFTER) -> str | None:
    """Return the recording that the last of `times` micro-batches of a shape gets."""
    return [cache.get(shape) for _ in range(times)][-1]


def test_a_recurring_shape_is_recorded() -> None:
    """Not at first, because that costs as much as many passes; and not twice."""
    recorder = Recorder()
    cache = GraphCache(recorder)

    assert get_repeatedly(cache, ONE, RECORD_AFTER - 1) is None
    assert get_repeatedly(cache, OTHER, RECORD_AFTER - 1) is None
    assert recorder.shapes == []
    assert get_repeatedly(cache, ONE, 5) == "recording of 1"
    assert recorder.shapes == [ONE]


def test_the_least_recently_used_recording_is_dropped() -> None:
    """There are never more than the limit, and recordings in use stay."""
    recorder = Recorder()
    cache = GraphCache(recorder, limit=2)
    for shape in (ONE, OTHER, ONE, THIRD):
        get_repeatedly(cache, shape)

    assert len(cache) == 2
    assert cache.get(ONE) == "recording of 1"
    assert recorder.shapes == [ONE, OTHER, THIRD]
    assert cache.get(OTHER) == "recording of 2"  # it recurred before: recorded again at once
    assert recorder.shapes == [ONE, OTHER, THIRD, OTHER]


def test_a_model_that_cannot_be_recorded_is_tried_once(caplog: pytest.LogCaptureFixture) -> None:
    """All its passes run without recordings, those of recorded shapes too: the failure makes them doubtful."""
    recorder = Recorder({OTHER: RuntimeError("operation not permitted when stream is capturing")})
    cache = GraphCache(recorder)
    assert get_repeatedly(cache, ONE)
    with caplog.at_level(logging.WARNING):
        assert get_repeatedly(cache, OTHER) is None

    assert get_repeatedly(cache, OTHER, 10) is None
    assert get_repeatedly(cache, ONE, 10) is None
    assert recorder.shapes == [ONE, OTHER]
    assert [record.getMessage() for record in caplog.records] == ["runtime.not_recordable"]


def test_a_full_device_drops_recordings_and_records_again() -> None:
    """They are dropped first, and shapes that recur are recorded again."""
    recorder = Recorder({OTHER: OutOfMemory()})
    cache = GraphCache(recorder)
    assert get_repeatedly(cache, ONE)
    assert get_repeatedly(cache, OTHER) is None
    assert len(cache) == 0

    assert get_repeatedly(cache, OTHER) == "recording of 2"
    assert get_repeatedly(cache, ONE, 1) is None


def test_a_lost_device_is_not_taken_for_a_model_that_cannot_be_recorded() -> None:
    """No further pass can succeed, so the error reaches the caller."""
    cache = GraphCache(Recorder({ONE: EngineBroken()}))

    with pytest.raises(EngineBroken):
        get_repeatedly(cache, ONE)


@given(
    st.builds(Shape, st.integers(1, 300), st.integers(4, 600), st.integers(1, 600), st.integers(1, 40)),
    st.sampled_from([384, 500, 512]),
)
def test_micro_batches_are_padded_to_a_shape_that_holds_them(shape: Shape, longest: int) -> None:
    """Never to less than they have or more than the model can read, and by at most half of the rows."""
    padded = padded_shape(shape, longest)
    if padded is None:
        too_long = max(shape.words, shape.tokens) > min(shape.tokens, longest)
        assert too_long or shape.rows * shape.tokens * 4 > MAX_TOKENS
        return
    assert all(actual <= limit for actual, limit in zip(shape, padded, strict=True))
    assert padded.tokens <= longest
    assert padded.rows * padded.tokens <= MAX_TOKENS
    assert padded.rows <= 1.5 * shape.rows or shape.rows == 1
    assert padded_shape(padded, longest) == padded


def test_small_micro_batches_have_few_shapes() -> None:
    """Few enough that each recurs: only then is a recording worth its cost."""
    shapes = {
        padded_shape(Shape(rows, tokens, 10, 5), 512) for rows in range(1, 200) for tokens in range(16, 513)
    } - {None}
    assert len(shapes - {None}) < 250
