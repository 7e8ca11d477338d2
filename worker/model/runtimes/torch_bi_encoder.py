"""A bi-encoder on torch: labels encoded once, texts of several sets of labels encoded together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worker.byte_cache import ByteCache
from worker.model.bi_encoder import BiEncoderGraph, Tensors
from worker.model.collate import Arrays
from worker.model.deberta import with_lean_encoder
from worker.model.decode import RowScores
from worker.model.graph import cast_linear_weights, replace_part
from worker.model.label_vectors import LabelVectors, Vector
from worker.model.runtimes import WindowRuntime
from worker.model.runtimes.device_errors import translate_device_errors
from worker.model.runtimes.torch import autocast, copy_to_device
from worker.model.tokenizer import LabelTokenizer
from worker.protocols import LabelCounts, Window

PROJECTED_BYTES = 64 << 20
"""Projected sets of labels that are kept on the device: a thousand labels take some 12 MB."""


class TorchBiEncoder(WindowRuntime):
    """A bi-encoder on one device, its text encoder and head in one precision, its label encoder in 32 bits.

    Rows with the same labels are scored together, and never with the labels of other rows.
    """

    def __init__(self, graph: BiEncoderGraph, tokenizer: LabelTokenizer, device: str, dtype: torch.dtype) -> None:
        self._label_encoder = graph.label_encoder
        if dtype is not torch.float32:
            graph = replace_part(graph, ("label_encoder",), torch.nn.Identity())
            graph = cast_linear_weights(with_lean_encoder(graph) if device == "cpu" else graph, dtype)
        self._graph = graph
        self._device = device
        self._dtype = dtype
        self._vectors = LabelVectors(tokenizer, self._encode_labels)
        self._projected: ByteCache[Tensors] = ByteCache(PROJECTED_BYTES)

    def prepare_labels(self, windows: Sequence[Window], on_step: Callable[[], None]) -> LabelCounts:
        """Compute the vectors of labels that were not read before."""
        sets = dict.fromkeys(window.prompts for window in windows)
        return self._vectors.prepare(chain.from_iterable(sets), on_step)

    def run_windows(self, windows: Sequence[Window], arrays: Arrays) -> list[RowScores]:
        """Return the scores of the rows of each set of labels."""
        rows_by_labels: dict[tuple[str, ...], list[int]] = {}
        for row, window in enumerate(windows):
            rows_by_labels.setdefault(window.prompts, []).append(row)
        hints = {"token_lengths": arrays["attention_mask"].sum(axis=1).tolist()}
        with translate_device_errors(), torch.inference_mode(), autocast(self._device, self._dtype):
            inputs = (copy_to_device(arrays[name], self._device) for name in self._graph.inputs)
            words = self._graph.encode_words(*inputs, **hints)
            parts = []
            for labels, rows in rows_by_labels.items():
                chosen = words if len(rows) == len(windows) else tuple(tensor[rows] for tensor in words)
                logits = self._score(chosen, labels)
                parts.append(RowScores(rows, {"logits": logits.float().cpu().numpy()}))
            return parts

    def _score(self, words: Tensors, labels: tuple[str, ...]) -> torch.Tensor:
        """Return the logits of texts with these labels; equal ones are read once: they change the others."""
        distinct = tuple(dict.fromkeys(labels))
        logits = self._graph.score(words, self._project_labels(distinct))
        if len(distinct) == len(labels):
            return logits
        columns = torch.tensor([distinct.index(label) for label in labels], device=logits.device)
        return logits.index_select(self._graph.label_axis, columns)

    def _project_labels(self, labels: tuple[str, ...]) -> Tensors:
        projected = self._projected.find([labels]).get(labels)
        if projected is None:
            projected = self._graph.project_labels(copy_to_device(self._vectors.stack(labels), self._device))
            self._projected.add(labels, projected, sum(tensor.nbytes for tensor in projected))
        return projected

    def _encode_labels(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Vector:
        exact = torch.autocast(self._device, enabled=False)
        with translate_device_errors(), torch.inference_mode(), exact:
            vectors: Any = self._label_encoder(*(copy_to_device(array, self._device) for array in (ids, mask)))
            return np.asarray(vectors.float().cpu().numpy())

    def release_memory(self) -> None:
        """Drop projected labels, and give cached device memory back."""
        self._projected.clear()
        if self._device == "cuda":
            torch.cuda.empty_cache()
