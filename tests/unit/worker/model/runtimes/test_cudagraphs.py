"""Scores on their way from a device. Recordings need one: tests/integration/test_cuda.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from worker.model.runtimes.cudagraphs import DeferredScores, _input_size
from worker.model.runtimes.graph_cache import Shape
from worker.protocols import EngineBroken


class Copy:
    """The event at the end of a copy to the host."""

    def __init__(self, target: np.ndarray, error: Exception | None = None) -> None:
        self.target = target
        self.error = error
        self.waits = 0

    def synchronize(self) -> None:
        """Finish the copy, or fail."""
        self.waits += 1
        if self.error:
            raise self.error
        self.target[:] = 7


def test_reading_scores_waits_for_their_copy_once() -> None:
    """Before it they are whatever the memory held; afterwards the tensor on the device is released."""
    host = np.zeros(3)
    copy = Copy(host)
    scores = DeferredScores(copy, host, torch.zeros(3))
    assert (list(scores), len(scores), copy.waits) == (["logits"], 1, 0)
    assert scores["logits"].tolist() == [7, 7, 7]
    assert scores["logits"] is host
    assert copy.waits == 1
    assert scores._source is None
    with pytest.raises(KeyError):
        scores["probabilities"]


def test_a_device_that_is_lost_meanwhile_breaks_the_engine() -> None:
    """At every reading: the tensor is kept until the copy has ended."""
    host = np.zeros(1)
    scores = DeferredScores(
        Copy(host, RuntimeError("CUDA error: unspecified launch failure")), host, torch.zeros(1)
    )
    for _ in range(2):
        with pytest.raises(EngineBroken):
            scores["logits"]


def test_inputs_of_a_recording_have_its_shape() -> None:
    """Lengths are one number per row."""
    shape = Shape(rows=4, tokens=16, words=16, labels=8)
    assert _input_size("text_lengths", shape) == (4, 1)
    assert _input_size("input_ids", shape) == _input_size("words_mask", shape) == (4, 16)
