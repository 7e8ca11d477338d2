"""Which shapes of micro-batches have a recorded forward pass: the few that come again and again. Pure.

Making a recording costs as much as many passes, and it is good for one shape. So small micro-batches are filled up
to one of a few shapes, and a shape is recorded once it came some times. Large ones keep a device busy as they are.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from worker.protocols import EngineBroken, OutOfMemory

T = TypeVar("T")

LARGEST = 2048
"""Padded tokens above which a pass may take the device longer than the host needs to launch it."""
PIECES_STEP = 16
LABELS_STEP = 8
SIGHTS = 3
"""Micro-batches of a shape until it is recorded."""
KEPT = 128
"""Recordings; the one used longest ago makes room for a new one."""

log = logging.getLogger(__name__)


class Shape(NamedTuple):
    """Of a micro-batch: its rows, and what the longest of them has."""

    rows: int
    pieces: int
    words: int
    labels: int


def filled(shape: Shape, longest: int) -> Shape | None:
    """The shape to fill such a micro-batch up to; None for one that is better run as it is.

    Args:
        shape: as it is.
        longest: pieces that the model can read.
    """
    power = 1 << (shape.rows - 1).bit_length()
    rows = power * 3 // 4 if power > 2 and shape.rows <= power * 3 // 4 else power  # 1, 2, 3, 4, 6, 8, 12, 16 ...
    pieces = min(-(-shape.pieces // PIECES_STEP) * PIECES_STEP, longest)
    if rows * pieces > LARGEST or max(shape.words, shape.pieces) > pieces:
        return None
    return Shape(rows, pieces, pieces, -(-shape.labels // LABELS_STEP) * LABELS_STEP)


class Replays(Generic[T]):
    """The recordings.

    Args:
        record: makes the recording of a shape. Whatever it raises means that the model cannot be recorded, and is
            not tried again; but for `OutOfMemory`, which may pass, and `EngineBroken`, which is for the caller.
        kept: how many.
    """

    def __init__(self, record: Callable[[Shape], T], kept: int = KEPT) -> None:
        self._record = record
        self._kept = kept
        self._recorded: OrderedDict[Shape, T] = OrderedDict()
        self._sights: Counter[Shape] = Counter()
        self._refused = False

    def of(self, shape: Shape) -> T | None:
        """The recording of this shape; None where it is to be run without one.

        Raises:
            EngineBroken: the device is lost.
        """
        if shape in self._recorded:
            self._recorded.move_to_end(shape)
            return self._recorded[shape]
        self._sights[shape] += 1
        if self._refused or self._sights[shape] < SIGHTS:
            return None
        if len(self._recorded) >= self._kept:
            self._recorded.popitem(last=False)
        try:
            self._recorded[shape] = self._record(shape)
        except EngineBroken:
            raise
        except OutOfMemory:
            self.clear()
            return None
        except Exception as error:  # noqa: BLE001  # there are many reasons, and all mean: without recordings, then
            self._refused = True
            self.clear()
            log.warning("runtime.not_recordable", extra={"reason": f"{type(error).__name__}: {str(error)[:300]}"})
            return None
        return self._recorded[shape]

    def __len__(self) -> int:
        return len(self._recorded)

    def clear(self) -> None:
        """Drop all recordings, and begin to count anew."""
        self._recorded.clear()
        self._sights.clear()
