"""A span model's forward pass of which the host knows every shape: for devices that work while the host goes on.

gliner asks the device how long the longest text is, which pieces begin words and where the labels' markers stand.
Each question waits for all that was launched before, and none can be part of a CUDA graph. Here the host says how
many words and labels there are, and where they stand is arithmetic on the device.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Model

from worker.model.graph import MarkerGraph, lean

POOLINGS = ("first", "last", "mean")
POSITION_STEP = 128
"""Relative positions are made for rows of a multiple of so many pieces."""


class FixedGraph(MarkerGraph):
    """`MarkerGraph` with a copy of the model; `forward` also takes `words` and `labels`, the most that a row has.

    Args:
        core: gliner's model; left as it is.
        dtype: what products are computed in, by autocast.
    """

    def __init__(self, core: Any, dtype: torch.dtype) -> None:
        super().__init__(lean(core, dtype))
        self._marker = core.config.class_token_index
        self._after_marker = not core.config.embed_ent_token
        if isinstance(self.core.token_rep_layer.bert_layer.model, DebertaV2Model):
            layers: Any = self.core.token_rep_layer.bert_layer.model.encoder
            layers.get_rel_pos = _Positions(layers.get_rel_pos)

    @staticmethod
    def fits(core: Any) -> bool:
        """Whether this is such a model."""
        return (
            MarkerGraph.fits(core)
            and getattr(core.config, "subtoken_pooling", "first") in POOLINGS
            and not getattr(core.config, "precomputed_prompts_mode", False)
        )

    def forward(self, *tensors: torch.Tensor, **sizes: Any) -> tuple[torch.Tensor, ...]:
        """Run the model."""
        input_ids, attention_mask, words_mask, text_lengths = tensors
        pieces = self.core.token_rep_layer(input_ids, attention_mask)
        words = gathered(pieces, words_mask, sizes["words"])
        if self._recurrent:
            mask = torch.arange(sizes["words"], device=words.device) < text_lengths
            words = self.core.rnn(words, mask)
        markers = input_ids.eq(self._marker) & attention_mask.gt(0)
        numbers = markers.cumsum(1) * markers
        if self._after_marker:
            numbers = numbers.roll(1, 1)
        return (self._scored(words, gathered(pieces, numbers, sizes["labels"])),)

    def labels(self, input_ids: Any, attention_mask: Any) -> int:
        """The most label markers that one of these rows has; asked on the host."""
        return int(((input_ids == self._marker) & (attention_mask > 0)).sum(axis=1).max())


def gathered(pieces: torch.Tensor, numbers: torch.Tensor, count: int) -> torch.Tensor:
    """The mean of the pieces of each number from 1 to `count`; zeros where there is none.

    A product with ones and zeros: gliner's lists of places would have a length that only the device knows.
    """
    wanted = torch.arange(1, count + 1, device=numbers.device)
    chosen = (numbers[:, None, :] == wanted[None, :, None]).to(pieces.dtype)
    return (chosen @ pieces) / chosen.sum(-1, keepdim=True).clamp(min=1)


class _Positions:
    """DeBERTa's relative positions, made once for each size: transformers makes them from numbers on the host.

    Args:
        made: the encoder's own way.
    """

    def __init__(self, made: Any) -> None:
        self._made = made
        self._kept: dict[int, torch.Tensor] = {}

    def __call__(self, hidden: torch.Tensor, *_: Any) -> torch.Tensor | None:
        length = hidden.shape[-2]
        size = -(-length // POSITION_STEP) * POSITION_STEP
        if size not in self._kept:  # kept for good: a recorded pass reads it from where it lies
            self._kept[size] = self._made(hidden.new_empty(1, size, 1))
        found = self._kept[size]
        return None if found is None else found[:, :length, :length]
