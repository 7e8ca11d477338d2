from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.model.runtimes.graph_cache import LARGEST, SIGHTS, Replays, Shape, filled
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


def seen(replays: Replays[str], shape: Shape, times: int = SIGHTS) -> str | None:
    """What the last of so many micro-batches of a shape gets."""
    return [replays.of(shape) for _ in range(times)][-1]


def test_a_shape_is_recorded_once_it_came_often_enough() -> None:
    """Not at once, because that costs as much as many passes; and not twice."""
    recorder = Recorder()
    replays = Replays(recorder)

    assert seen(replays, ONE, SIGHTS - 1) is None
    assert seen(replays, OTHER, SIGHTS - 1) is None
    assert recorder.made == []
    assert seen(replays, ONE, 5) == "recording of 1"
    assert recorder.made == [ONE]


def test_the_recording_used_longest_ago_makes_room() -> None:
    """There are never more than there is room for, and what is in use stays."""
    recorder = Recorder()
    replays = Replays(recorder, kept=2)
    for shape in (ONE, OTHER, ONE, THIRD):
        seen(replays, shape)

    assert len(replays) == 2
    assert replays.of(ONE) == "recording of 1"
    assert recorder.made == [ONE, OTHER, THIRD]
    assert replays.of(OTHER) == "recording of 2"  # it was seen often enough: made again at once
    assert recorder.made == [ONE, OTHER, THIRD, OTHER]


def test_a_model_that_cannot_be_recorded_is_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    """All its passes run as ever, those of recorded shapes too: what refused one makes the others doubtful."""
    recorder = Recorder({OTHER: RuntimeError("operation not permitted when stream is capturing")})
    replays = Replays(recorder)
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
    replays = Replays(recorder)
    assert seen(replays, ONE)
    assert seen(replays, OTHER) is None
    assert len(replays) == 0

    assert seen(replays, OTHER) == "recording of 2"
    assert seen(replays, ONE, 1) is None


def test_a_lost_device_is_not_taken_for_a_model_that_cannot_be_recorded() -> None:
    """No further pass can succeed, so the process must hear of it."""
    replays = Replays(Recorder({ONE: EngineBroken()}))

    with pytest.raises(EngineBroken):
        seen(replays, ONE)


@given(
    st.builds(Shape, st.integers(1, 300), st.integers(4, 600), st.integers(1, 600), st.integers(1, 40)),
    st.sampled_from([384, 500, 512]),
)
def test_micro_batches_are_filled_up_to_what_they_fit_into(shape: Shape, longest: int) -> None:
    """Never to less than they have or more than the model can read, and rows by no more than half."""
    room = filled(shape, longest)
    if room is None:
        too_long = max(shape.words, shape.pieces) > min(shape.pieces, longest)
        assert too_long or shape.rows * shape.pieces * 4 > LARGEST
        return
    assert all(have <= there for have, there in zip(shape, room, strict=True))
    assert room.pieces <= longest
    assert room.rows * room.pieces <= LARGEST
    assert room.rows <= 1.5 * shape.rows or shape.rows == 1
    assert filled(room, longest) == room


def test_small_micro_batches_have_few_shapes() -> None:
    """Few enough that each comes again: that is what makes a recording worth its cost."""
    rooms = {filled(Shape(rows, pieces, 10, 5), 512) for rows in range(1, 200) for pieces in range(16, 513)} - {
        None
    }
    assert len(rooms) < 250
