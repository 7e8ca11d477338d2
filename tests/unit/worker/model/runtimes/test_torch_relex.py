"""Rows that ask for relations, and rows that do not, in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from worker.model.relations.graph import EncodedRows, RelexGraph, ScoredPairs
from worker.model.runtimes.torch_relex import TorchRelex
from worker.protocols import RelationPrompt, ShardRef, Window


def make_window(relations: int) -> Window:
    """Return a window of two words that are entities."""
    return Window(
        ShardRef("job", 0), 0, ("Ada", "Bob"), ("person",), (0.5,), flat=True, multi_label=False, row_tokens=8,
        relations=(RelationPrompt("met", 0.5),) * relations,
    )  # fmt: skip


class Echo(RelexGraph):
    """A graph that scores every pair by the row's number, and notes the rows that are scored."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.tagged = False
        self.inputs = ("input_ids",)
        self.rows: list[int] = []

    def encode(self, *tensors: torch.Tensor, **_: Any) -> EncodedRows:
        """Return a high score for every word."""
        rows = len(tensors[0])
        return EncodedRows(torch.full((rows, 2, 1, 1), 3.0), torch.zeros(rows, 2, 4), torch.zeros(rows, 2, 4))

    def score_pairs(
        self, rows: EncodedRows, row: int, window: Window, entities: torch.Tensor
    ) -> ScoredPairs | None:
        """Return one pair, but none for the last row."""
        self.rows.append(row)
        if row == len(rows.logits) - 1:
            return None
        return ScoredPairs(entities[:2].flatten()[None], torch.full((1, len(window.relations)), float(row)))


def test_each_row_that_asks_has_its_pairs() -> None:
    """Rows that ask for nothing cost nothing; rows with fewer relations are padded."""
    graph = Echo()
    windows = [make_window(count) for count in (0, 1, 2, 1)]
    arrays = {
        "input_ids": np.ones((4, 8), np.int64),
        "attention_mask": np.ones((4, 8), np.int64),
        "text_lengths": np.full((4, 1), 2),
    }
    [(rows, scores)] = TorchRelex(graph, "cpu", torch.float32).run_windows(windows, arrays)
    assert (list(rows), graph.rows) == ([0, 1, 2, 3], [1, 2, 3])
    assert scores["logits"].shape == (4, 2, 1, 1)
    assert scores["pair_rows"].tolist() == [1, 2]
    assert scores["pair_ends"].tolist() == [[0, 0, 1, 1]] * 2
    assert scores["pair_logits"].tolist() == [[1.0, 0.0], [2.0, 2.0]]
    [(_, silent)] = TorchRelex(graph, "cpu", torch.float32).run_windows(
        windows[:1], {n: a[:1] for n, a in arrays.items()}
    )
    assert len(silent["pair_rows"]) == 0
