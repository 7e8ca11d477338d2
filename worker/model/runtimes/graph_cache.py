"""Cache of recorded forward passes for the few shapes of micro-batches that recur. Pure.

A recording costs as much as many passes, and fits one shape. So small micro-batches are padded to one of a few
shapes, and a shape is recorded once it has recurred. Large micro-batches keep a device busy without a recording.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from worker.protocols import EngineBroken, OutOfMemory

T = TypeVar("T")

MAX_TOKENS = 2048
"""Padded tokens above which a pass may take the device longer than the host needs to launch it."""
TOKENS_STEP = 16
LABELS_STEP = 8
RECORD_AFTER = 3
"""Micro-batches of a shape until it is recorded."""
MAX_RECORDINGS = 128
"""Number of recordings; the least recently used one is dropped for a new one."""

log = logging.getLogger(__name__)


class Shape(NamedTuple):
    """A micro-batch's number of rows, and the most tokens, words and labels that a row has."""

    rows: int
    tokens: int
    words: int
    labels: int


def padded_shape(shape: Shape, longest: int) -> Shape | None:
    """Return the shape to pad a micro-batch to; None for one that is better run as it is.

    Args:
        shape: the micro-batch's shape.
        longest: tokens that a row may have.
    """
    power = 1 << (shape.rows - 1).bit_length()
    rows = power * 3 // 4 if power > 2 and shape.rows <= power * 3 // 4 else power  # 1, 2, 3, 4, 6, 8, 12, 16 ...
    tokens = min(-(-shape.tokens // TOKENS_STEP) * TOKENS_STEP, longest)
    if rows * tokens > MAX_TOKENS or max(shape.words, shape.tokens) > tokens:
        return None
    return Shape(rows, tokens, tokens, -(-shape.labels // LABELS_STEP) * LABELS_STEP)


class GraphCache(Generic[T]):
    """Recordings by shape.

    Args:
        record: makes the recording of a shape. Any exception means that the model cannot be recorded, and disables
            recording; except `OutOfMemory`, which may pass, and `EngineBroken`, which is raised to the caller.
        limit: number of recordings.
    """

    def __init__(self, record: Callable[[Shape], T], limit: int = MAX_RECORDINGS) -> None:
        self._record = record
        self._limit = limit
        self._recordings: OrderedDict[Shape, T] = OrderedDict()
        self._uses: Counter[Shape] = Counter()
        self._disabled = False

    def get(self, shape: Shape) -> T | None:
        """Return the recording of this shape; None where it is to be run without one.

        Raises:
            EngineBroken: the device is lost.
        """
        if shape in self._recordings:
            self._recordings.move_to_end(shape)
            return self._recordings[shape]
        self._uses[shape] += 1
        if self._disabled or self._uses[shape] < RECORD_AFTER:
            return None
        if len(self._recordings) >= self._limit:
            self._recordings.popitem(last=False)
        try:
            self._recordings[shape] = self._record(shape)
        except EngineBroken:
            raise
        except OutOfMemory:
            self.clear()
            return None
        except Exception as error:  # noqa: BLE001  # whatever the reason, passes run without recordings from now on
            self._disabled = True
            self.clear()
            log.warning("runtime.not_recordable", extra={"reason": f"{type(error).__name__}: {str(error)[:300]}"})
            return None
        return self._recordings[shape]

    def __len__(self) -> int:
        return len(self._recordings)

    def clear(self) -> None:
        """Drop all recordings, and restart counting."""
        self._recordings.clear()
        self._uses.clear()
