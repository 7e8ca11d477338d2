from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.model.runtimes.graph_cache import MAX_TOKENS, RECORD_AFTER, GraphCache, Shape, padded_shape
from worker.protocols import EngineBroken, OutOfMemory

ONE, OTHER, THIRD = (Shape(rows, 32, 32, 8) for rows in (1, 2, 3))


class Recorder:
    """Records shapes, as often as it is asked to; some of them it cannot."""

    def __init__(self, failing: dict[Shape, Exception] | None = None) -> None:
        self.made: list[Shape] = []
        self.failing = failing or {}

    def __call__(self, shape: Shape) -> str:
        self.made.append(shape)
        if shape in self.failing:
            raise self.failing.pop(shape)
        return f"recording of {shape.rows}"


def seen(replays: GraphCache[str], shape: Shape, times: int = RECORD_AFTER) -> str | None:
    """What the last of so many micro-batches of a shape gets."""
    return [replays.get(shape) for _ in range(times)][-1]


def test_a_shape_is_recorded_once_it_came_often_enough() -> None:
    """Not at once, because that costs as much as many passes; and not twice."""
    recorder = Recorder()
    replays = GraphCache(recorder)

    assert seen(replays, ONE, RECORD_AFTER - 1) is None
    assert seen(replays, OTHER, RECORD_AFTER - 1) is None
    assert recorder.made == []
    assert seen(replays, ONE, 5) == "recording of 1"
    assert recorder.made == [ONE]


def test_the_recording_used_longest_ago_makes_room() -> None:
    """There are never more than there is room for, and what is in use stays."""
    recorder = Recorder()
    replays = GraphCache(recorder, limit=2)
    for shape in (ONE, OTHER, ONE, THIRD):
        seen(replays, shape)

    assert len(replays) == 2
    assert replays.get(ONE) == "recording of 1"
    assert recorder.made == [ONE, OTHER, THIRD]
    assert replays.get(OTHER) == "recording of 2"  # it was seen often enough: made again at once
    assert recorder.made == [ONE, OTHER, THIRD, OTHER]


def test_a_model_that_cannot_be_recorded_is_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    """All its passes run as ever, those of recorded shapes too: what refused one makes the others doubtful."""
    recorder = Recorder({OTHER: RuntimeError("operation not permitted when stream is capturing")})
    replays = GraphCache(recorder)
    assert seen(replays, ONE)
    with caplog.at_level(logging.WARNING):
        assert seen(replays, OTHER) is None

    assert seen(replays, OTHER, 10) is None
    assert seen(replays, ONE, 10) is None
    assert recorder.made == [ONE, OTHER]
    assert [record.getMessage() for record in caplog.records] == ["runtime.not_recordable"]


def test_a_full_device_gives_recordings_up_and_makes_them_again() -> None:
    """They are the first to go, and come back with the shapes that come back."""
    recorder = Recorder({OTHER: OutOfMemory()})
    replays = GraphCache(recorder)
    assert seen(replays, ONE)
    assert seen(replays, OTHER) is None
    assert len(replays) == 0

    assert seen(replays, OTHER) == "recording of 2"
    assert seen(replays, ONE, 1) is None


def test_a_lost_device_is_not_taken_for_a_model_that_cannot_be_recorded() -> None:
    """No further pass can succeed, so the process must hear of it."""
    replays = GraphCache(Recorder({ONE: EngineBroken()}))

    with pytest.raises(EngineBroken):
        seen(replays, ONE)


@given(
    st.builds(Shape, st.integers(1, 300), st.integers(4, 600), st.integers(1, 600), st.integers(1, 40)),
    st.sampled_from([384, 500, 512]),
)
def test_micro_batches_are_filled_up_to_what_they_fit_into(shape: Shape, longest: int) -> None:
    """Never to less than they have or more than the model can read, and rows by no more than half."""
    room = padded_shape(shape, longest)
    if room is None:
        too_long = max(shape.words, shape.tokens) > min(shape.tokens, longest)
        assert too_long or shape.rows * shape.tokens * 4 > MAX_TOKENS
        return
    assert all(have <= there for have, there in zip(shape, room, strict=True))
    assert room.tokens <= longest
    assert room.rows * room.tokens <= MAX_TOKENS
    assert room.rows <= 1.5 * shape.rows or shape.rows == 1
    assert padded_shape(room, longest) == room


def test_small_micro_batches_have_few_shapes() -> None:
    """Few enough that each comes again: that is what makes a recording worth its cost."""
    rooms = {
        padded_shape(Shape(rows, pieces, 10, 5), 512) for rows in range(1, 200) for pieces in range(16, 513)
    } - {None}
    assert len(rooms - {None}) < 250
