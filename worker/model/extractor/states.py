"""The encoder's vectors of a micro-batch, and those of words and markers among them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from worker.model.extractor.collate import Batch


class States(NamedTuple):
    """Vectors of all tokens of each row, of its words, and of its markers; zeros after the last word or marker."""

    tokens: torch.Tensor
    words: torch.Tensor
    markers: torch.Tensor
    classes: torch.Tensor
    word_mask: torch.Tensor
    marker_mask: torch.Tensor


def encode(encoder: Any, batch: Batch, device: str) -> States:
    """Run the encoder."""
    arrays = {name: torch.from_numpy(array) for name, array in batch.arrays.items()}
    if device != "cpu":
        arrays = {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in arrays.items()}
    tokens = encoder(input_ids=arrays["input_ids"], attention_mask=arrays["attention_mask"]).last_hidden_state
    words, word_mask = _gather(tokens, arrays["words"], arrays["word_counts"])
    markers, marker_mask = _gather(tokens, arrays["markers"], arrays["marker_counts"])
    classes, _ = _gather(tokens, arrays["classes"], arrays["class_counts"])
    return States(tokens, words, markers, classes, word_mask, marker_mask)


def _gather(tokens: torch.Tensor, places: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.arange(places.shape[1], device=places.device) < counts[:, None]
    vectors = tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
    return vectors * mask[..., None], mask
