"""The recurrent layer over a row's words, computed without packing: the same on every runtime."""

from __future__ import annotations

import copy
from typing import Any

import torch


class PaddedBiLSTM(torch.nn.Module):
    """A bidirectional LSTM over padded rows.

    gliner packs the rows. An exported packed LSTM has the rows' lengths as an input that OpenVINO's CPU plugin does
    not respect: its backward pass begins in the padding, and scores depend on the other rows. Here the forward pass
    never sees the padding; for the backward pass the row itself is reversed, and its padding stays behind it.

    Args:
        lstm: the layer whose weights are copied.
    """

    def __init__(self, lstm: torch.nn.LSTM) -> None:
        super().__init__()
        names = [f"l{layer}" for layer in range(lstm.num_layers)]
        self._forward_layers = torch.nn.ModuleList(_copy_direction(lstm, name) for name in names)
        self._backward_layers = torch.nn.ModuleList(_copy_direction(lstm, f"{name}_reverse") for name in names)

    def forward(self, words: torch.Tensor, mask: torch.Tensor, **_: Any) -> torch.Tensor:
        """Return the words' vectors with context from both sides of the row; zeros after its end, like in gliner.

        Args:
            words: vectors of (row, word).
            mask: of (row, word): true for words, false for padding.
        """
        lengths = mask.sum(1, keepdim=True)
        at = torch.arange(words.shape[1], device=words.device)[None, :]
        reversed_at = torch.where(at < lengths, lengths - 1 - at, at)[..., None]
        if words.device.type == "cuda":  # under autocast cuDNN would run it in fp16, whatever the settings say
            with torch.autocast("cuda", enabled=False):
                return self._run_both(words.float(), reversed_at) * mask[..., None]
        return self._run_both(words, reversed_at) * mask[..., None]

    def _run_both(self, words: torch.Tensor, reversed_at: torch.Tensor) -> torch.Tensor:
        for ahead, back in zip(self._forward_layers, self._backward_layers, strict=True):
            left, _ = ahead(words)
            right, _ = back(words.gather(1, reversed_at.expand_as(words)))
            words = torch.cat([left, right.gather(1, reversed_at.expand_as(right))], dim=-1)
        return words


def without_packing(core: Any) -> Any:
    """Return gliner's model with a `PaddedBiLSTM`; it shares everything else, and `core` stays unchanged."""
    if not hasattr(core, "rnn") or isinstance(core.rnn, PaddedBiLSTM):
        return core
    result = copy.copy(core)
    result._modules = {**core._modules, "rnn": PaddedBiLSTM(core.rnn.lstm)}
    return result


def _copy_direction(lstm: torch.nn.LSTM, name: str) -> torch.nn.LSTM:
    weights = {kind: getattr(lstm, f"{kind}_{name}") for kind in ("weight_ih", "weight_hh")}
    if lstm.bias:
        weights |= {kind: getattr(lstm, f"{kind}_{name}") for kind in ("bias_ih", "bias_hh")}
    layer = torch.nn.LSTM(weights["weight_ih"].shape[1], lstm.hidden_size, bias=lstm.bias, batch_first=True)
    layer.load_state_dict({f"{kind}_l0": value for kind, value in weights.items()})
    return layer.to(weights["weight_ih"].device)
