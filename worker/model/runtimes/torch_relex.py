"""A model for relations on torch: entities of all rows together, then pairs of each row that asks for relations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from worker.model.collate import Arrays
from worker.model.deberta import with_lean_encoder
from worker.model.decode import Array, RowScores, Scores, decode_scores
from worker.model.graph import cast_linear_weights
from worker.model.relations.graph import MAX_ENTITIES, EncodedRows, RelexGraph
from worker.model.relations.pairs import rank_words
from worker.model.runtimes import WindowRuntime
from worker.model.runtimes.device_errors import translate_device_errors
from worker.model.runtimes.torch import autocast, copy_to_device
from worker.protocols import Window


class TorchRelex(WindowRuntime):
    """A model for relations on one device, in one precision."""

    def __init__(self, graph: RelexGraph, device: str, dtype: torch.dtype) -> None:
        if dtype is not torch.float32:
            graph = cast_linear_weights(with_lean_encoder(graph) if device == "cpu" else graph, dtype)
        self._graph = graph
        self._device = device
        self._dtype = dtype

    def run_windows(self, windows: Sequence[Window], arrays: Arrays) -> list[RowScores]:
        """Return the scores of entities and pairs, on the CPU."""
        hints = {
            "token_lengths": arrays["attention_mask"].sum(axis=1).tolist(),
            "word_lengths": arrays["text_lengths"][:, 0].tolist(),
        }
        with translate_device_errors(), torch.inference_mode(), autocast(self._device, self._dtype):
            inputs = (copy_to_device(arrays[name], self._device) for name in self._graph.inputs)
            rows = self._graph.encode(*inputs, **hints)
            logits = rows.logits.float().cpu().numpy()
            return [RowScores(range(len(windows)), {"logits": logits, **self._score_pairs(rows, windows, logits)})]

    def _score_pairs(self, rows: EncodedRows, windows: Sequence[Window], logits: Array) -> Scores:
        """Return the pairs of all rows below each other; a row with fewer relations has columns without meaning."""
        most = max(len(window.relations) for window in windows)
        related = [row for row, window in enumerate(windows) if window.relations]
        asking = [windows[row] for row in related]
        spans_by_row = decode_scores(asking, {"logits": logits[related]}, self._graph.tagged) if related else ()
        indexes, ends, pair_logits = [np.zeros(0, np.int64)], [np.zeros((0, 4), np.int64)], [np.zeros((0, most))]
        for row, window, spans in zip(related, asking, spans_by_row, strict=True):
            entities = rank_words(spans)[:MAX_ENTITIES]
            if len(entities) < 2:  # no pair
                continue
            pairs = self._graph.score_pairs(rows, row, window, torch.tensor(entities, device=self._device))
            if pairs is not None:
                indexes.append(np.full(len(pairs.ends), row))
                ends.append(pairs.ends.cpu().numpy())
                missing = most - len(window.relations)
                pair_logits.append(np.pad(pairs.logits.cpu().numpy(), ((0, 0), (0, missing))))
        return {
            "pair_rows": np.concatenate(indexes),
            "pair_ends": np.concatenate(ends),
            "pair_logits": np.concatenate(pair_logits),
        }

    def release_memory(self) -> None:
        """Give cached device memory back."""
        if self._device == "cuda":
            torch.cuda.empty_cache()
