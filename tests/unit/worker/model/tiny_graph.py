"""A forward pass of a few numbers, for tests of runtimes and exports, and its inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from worker.model.collate import Arrays
from worker.model.graph import Graph
from worker.model.selection.onnx_export import export_graph

LABELS = 3


class TinyGraph(Graph):
    """Scores from embeddings of the tokens.

    Attributes:
        hints: the hints of the latest pass.
    """

    def __init__(self) -> None:
        torch.manual_seed(1)
        super().__init__(torch.nn.Sequential(torch.nn.Embedding(50, 8), torch.nn.Linear(8, LABELS)))
        self.hints: dict[str, Any] = {}

    def forward(self, *tensors: torch.Tensor, **hints: Any) -> torch.Tensor:
        """Run the model; every input changes the scores."""
        self.hints = hints
        input_ids, attention_mask, words_mask, text_lengths = tensors
        added = attention_mask + 2 * words_mask + text_lengths
        scores: torch.Tensor = self.core(input_ids) + added[..., None]
        return scores[:, :, None, :]


def make_arrays(rows: int, tokens: int) -> Arrays:
    """Return inputs of this shape."""
    random = np.random.default_rng(rows * tokens)
    names = ("input_ids", "attention_mask", "words_mask")
    arrays = {name: random.integers(0, 50, (rows, tokens)) for name in names}
    return {**arrays, "text_lengths": random.integers(1, tokens, (rows, 1))}


def score(graph: Graph, arrays: Arrays) -> Any:
    """Return the graph's own scores."""
    with torch.inference_mode():
        return graph(*(torch.from_numpy(arrays[name]) for name in graph.inputs)).numpy()


def export_tiny(folder: Path) -> Path:
    """Return a `TinyGraph` as an ONNX file."""
    return export_graph(TinyGraph().eval(), make_arrays(2, 5), folder)
