"""The recurrent layer over a row's words, computed without packing: the same on every runtime."""

from __future__ import annotations

import copy
from typing import Any

import torch


class PaddedBiLSTM(torch.nn.Module):
    """A bidirectional LSTM over padded rows.

    gliner packs the rows. An exported packed LSTM has the rows' lengths as an input that OpenVINO's CPU plugin does
    not respect: its way back begins in the padding, and scores depend on the other rows. Here the way on never sees
    what follows the row's end; for the way back the row itself is turned round, and its padding stays behind it.

    Args:
        lstm: whose weights are copied.
    """

    def __init__(self, lstm: torch.nn.LSTM) -> None:
        super().__init__()
        names = [f"l{layer}" for layer in range(lstm.num_layers)]
        self._on = torch.nn.ModuleList(_one_way(lstm, name) for name in names)
        self._back = torch.nn.ModuleList(_one_way(lstm, f"{name}_reverse") for name in names)

    def forward(self, words: torch.Tensor, mask: torch.Tensor, **_: Any) -> torch.Tensor:
        """Return the words as they are seen from both ends of their row; zeros after its end, as gliner has them.

        Args:
            words: vectors of (row, word).
            mask: of (row, word): which are words.
        """
        lengths = mask.sum(1, keepdim=True)
        at = torch.arange(words.shape[1], device=words.device)[None, :]
        turned = torch.where(at < lengths, lengths - 1 - at, at)[..., None]
        if words.device.type == "cuda":  # under autocast cuDNN would run it in fp16, whatever was asked for
            with torch.autocast("cuda", enabled=False):
                return self._both_ways(words.float(), turned) * mask[..., None]
        return self._both_ways(words, turned) * mask[..., None]

    def _both_ways(self, words: torch.Tensor, turned: torch.Tensor) -> torch.Tensor:
        for on, back in zip(self._on, self._back, strict=True):
            there, _ = on(words)
            again, _ = back(words.gather(1, turned.expand_as(words)))
            words = torch.cat([there, again.gather(1, turned.expand_as(again))], dim=-1)
        return words


def without_packing(core: Any) -> Any:
    """Return gliner's model with a `PaddedBiLSTM`; it shares all the rest, and the model itself stays as it is."""
    if not hasattr(core, "rnn") or isinstance(core.rnn, PaddedBiLSTM):
        return core
    made = copy.copy(core)
    made._modules = {**core._modules, "rnn": PaddedBiLSTM(core.rnn.lstm)}
    return made


def _one_way(lstm: torch.nn.LSTM, name: str) -> torch.nn.LSTM:
    weights = {kind: getattr(lstm, f"{kind}_{name}") for kind in ("weight_ih", "weight_hh")}
    if lstm.bias:
        weights |= {kind: getattr(lstm, f"{kind}_{name}") for kind in ("bias_ih", "bias_hh")}
    made = torch.nn.LSTM(weights["weight_ih"].shape[1], lstm.hidden_size, bias=lstm.bias, batch_first=True)
    made.load_state_dict({f"{kind}_l0": value for kind, value in weights.items()})
    return made.to(weights["weight_ih"].device)
