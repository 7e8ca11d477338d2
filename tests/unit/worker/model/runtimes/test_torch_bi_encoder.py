"""A micro-batch of a bi-encoder: texts encoded together, scored with those that ask for the same labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worker.model.bi_encoder import Tensors
from worker.model.graph import INPUTS
from worker.model.runtimes.torch_bi_encoder import TorchBiEncoder
from worker.protocols import LabelCounts, ShardRef, Window


class TinyGraph(torch.nn.Module):
    """Scores a word with a label by the sum of a number of each.

    Attributes:
        encoded: rows of every pass of the text encoder.
        projected: labels of every set that was projected.
    """

    inputs = INPUTS
    label_axis = 2

    def __init__(self) -> None:
        super().__init__()
        self.encoded: list[int] = []
        self.projected: list[int] = []

    def label_encoder(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return each row's first id."""
        return (ids * mask)[:, :1].float()

    def encode_words(self, ids: torch.Tensor, *_: torch.Tensor, **__: Any) -> Tensors:
        """Return the ids."""
        self.encoded.append(len(ids))
        return (ids.float(),)

    def project_labels(self, vectors: torch.Tensor) -> Tensors:
        """Return the vectors."""
        self.projected.append(len(vectors))
        return (vectors,)

    def score(self, words: Tensors, labels: Tensors) -> torch.Tensor:
        """Return scores of (row, word, label, one)."""
        return (words[0][:, :, None] + labels[0][None, None, :, 0])[..., None]


class LetterTokenizer:
    """A label is its first letter."""

    def encode(self, labels: list[str]) -> list[list[int]]:
        """Return the letter's number."""
        return [[ord(label[0])] for label in labels]

    def pad(self, rows: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows; none is longer than another."""
        ids = np.array(rows)
        return ids, np.ones_like(ids)


def make_runtime(graph: Any) -> TorchBiEncoder:
    """Return the runtime of a graph."""
    tokenizer: Any = LetterTokenizer()
    return TorchBiEncoder(graph, tokenizer, "cpu", torch.float32)


def make_window(*labels: str) -> Window:
    """Return a window that asks for these labels."""
    return Window(ShardRef("job", 0), 0, ("w",), labels, (0.5,) * len(labels), True, False, 3)


def make_arrays(ids: list[list[int]]) -> dict[str, NDArray[np.int64]]:
    """Return a micro-batch with these ids."""
    return dict.fromkeys(INPUTS, np.array(ids))


def test_rows_are_scored_with_their_own_labels() -> None:
    """In one pass of the text encoder; a set of labels is projected once, however many rows and batches ask."""
    graph = TinyGraph()
    runtime = make_runtime(graph)
    windows = [make_window("a", "b"), make_window("c"), make_window("a", "b")]
    for _ in range(2):
        first, second = runtime.run_windows(windows, make_arrays([[1], [2], [3]]))
        assert (list(first.rows), list(second.rows)) == ([0, 2], [1])
        assert first.scores["logits"][:, 0, :, 0].tolist() == [[98, 99], [100, 101]]
        assert second.scores["logits"][:, 0, :, 0].tolist() == [[101]]
    assert (graph.encoded, graph.projected) == ([3, 3], [2, 1])
    assert runtime.prepare_labels(windows, lambda: None) == LabelCounts(0, 3)

    runtime.release_memory()
    runtime.run_windows(windows[:1], make_arrays([[1]]))
    assert graph.projected == [2, 1, 2]


def test_equal_labels_are_read_once() -> None:
    """A copy would change the scores of the others where labels attend to each other."""
    graph = TinyGraph()
    runtime = make_runtime(graph)
    [part] = runtime.run_windows([make_window("a", "b", "a")], make_arrays([[1]]))
    assert part.scores["logits"][0, 0, :, 0].tolist() == [98, 99, 98]
    assert graph.projected == [2]
