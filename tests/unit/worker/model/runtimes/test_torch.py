"""The forward pass on torch."""

from __future__ import annotations

import numpy as np
import torch

from tests.unit.worker.model.tiny_graph import TinyGraph, make_arrays, score
from worker.model.runtimes.torch import TorchRuntime


def test_scores_are_those_of_the_graph() -> None:
    """In 32 bits; lengths are passed as lists."""
    graph, arrays = TinyGraph(), make_arrays(3, 7)
    logits = TorchRuntime(graph, "cpu", torch.float32).run(arrays)["logits"]
    assert np.array_equal(logits, score(graph, arrays))
    assert logits.dtype == np.float32
    TorchRuntime(graph, "cpu", torch.float32).run(arrays)
    assert graph.hints["word_lengths"] == arrays["text_lengths"][:, 0].tolist()
    assert graph.hints["token_lengths"] == arrays["attention_mask"].sum(axis=1).tolist()


def test_in_16_bits_linear_weights_are_cast_once() -> None:
    """In a copy; the scores are close."""
    graph, arrays = TinyGraph(), make_arrays(2, 5)
    logits = TorchRuntime(graph, "cpu", torch.bfloat16).run(arrays)["logits"]
    assert logits.dtype == np.float32
    assert np.allclose(logits, score(graph, arrays), rtol=0.02)
    assert not np.array_equal(logits, score(graph, arrays))
    assert graph.core[1].weight.dtype is torch.float32
