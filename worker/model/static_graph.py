"""Static-shape forward pass for span models, so that it can be captured in CUDA graphs.

gliner asks the device for the longest text's length, for the tokens that begin words, and for the label markers'
positions. Each of these waits for everything launched before, and none can be part of a CUDA graph. Here the host
passes the number of words and labels, and positions are computed on the device.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Model

from worker.model.graph import MarkerGraph, cast_linear_weights

POOLINGS = ("first", "last", "mean")
POSITION_STEP = 128
"""Relative positions are computed for row lengths that are a multiple of this many tokens."""


class StaticGraph(MarkerGraph):
    """`MarkerGraph` on a copy of the model; `forward` also takes `words` and `labels`, the most that any row has.

    Args:
        core: gliner's model; stays unchanged.
        dtype: precision of matrix products under autocast.
    """

    def __init__(self, core: Any, dtype: torch.dtype) -> None:
        super().__init__(cast_linear_weights(core, dtype))
        self._marker = core.config.class_token_index
        self._after_marker = not core.config.embed_ent_token
        if isinstance(self.core.token_rep_layer.bert_layer.model, DebertaV2Model):
            layers: Any = self.core.token_rep_layer.bert_layer.model.encoder
            layers.get_rel_pos = _CachedPositions(layers.get_rel_pos)

    @staticmethod
    def can_run(core: Any) -> bool:
        """Return whether `core` scores spans by their markers, with shapes that the host can compute."""
        return (
            MarkerGraph.can_run(core)
            and getattr(core.config, "subtoken_pooling", "first") in POOLINGS
            and not getattr(core.config, "precomputed_prompts_mode", False)
        )

    def forward(self, *tensors: torch.Tensor, **sizes: Any) -> torch.Tensor:
        """Run the model."""
        input_ids, attention_mask, words_mask, text_lengths = tensors
        tokens = self.core.token_rep_layer(input_ids, attention_mask)
        words = pool_by_index(tokens, words_mask, sizes["words"])
        if self._recurrent:
            mask = torch.arange(sizes["words"], device=words.device) < text_lengths
            words = self.core.rnn(words, mask)
        markers = input_ids.eq(self._marker) & attention_mask.gt(0)
        indexes = markers.cumsum(1) * markers
        if self._after_marker:
            indexes = indexes.roll(1, 1)
        return self._score_spans(words, pool_by_index(tokens, indexes, sizes["labels"]))

    def count_labels(self, input_ids: Any, attention_mask: Any) -> int:
        """Return the most label markers that any of these rows has; computed on the host."""
        return int(((input_ids == self._marker) & (attention_mask > 0)).sum(axis=1).max())


def pool_by_index(tokens: torch.Tensor, indexes: torch.Tensor, count: int) -> torch.Tensor:
    """Return the mean of the tokens that have each index from 1 to `count`; zeros where there is none.

    Computed as a product with ones and zeros: the length of gliner's lists of positions is known on the device
    only.

    Args:
        tokens: vectors of (row, token).
        indexes: of (row, token): the index of each token, 0 for none.
        count: the highest index.
    """
    wanted = torch.arange(1, count + 1, device=indexes.device)
    chosen = (indexes[:, None, :] == wanted[None, :, None]).to(tokens.dtype)
    return (chosen @ tokens) / chosen.sum(-1, keepdim=True).clamp(min=1)


class _CachedPositions:
    """DeBERTa's relative positions, computed once per size: transformers computes them from numbers on the host."""

    def __init__(self, compute: Any) -> None:
        self._compute = compute
        self._cache: dict[int, torch.Tensor] = {}

    def __call__(self, hidden: torch.Tensor, *_: Any) -> torch.Tensor | None:
        length = hidden.shape[-2]
        size = -(-length // POSITION_STEP) * POSITION_STEP
        if size not in self._cache:  # never evicted: a recorded pass reads the tensor at its address
            self._cache[size] = self._compute(hidden.new_empty(1, size, 1))
        positions = self._cache[size]
        return None if positions is None else positions[:, :length, :length]
