"""The forward pass on torch: the reference, for any model on any device."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from numpy.typing import NDArray

from worker.model.collate import Arrays
from worker.model.deberta import with_lean_encoder
from worker.model.decode import Scores
from worker.model.graph import Graph, cast_linear_weights
from worker.model.runtimes import Runtime
from worker.model.runtimes.device_errors import translate_device_errors


class TorchRuntime(Runtime):
    """A graph on one device, in one precision."""

    def __init__(self, graph: Graph, device: str, dtype: torch.dtype) -> None:
        if dtype is not torch.float32:  # fp32 is the library's own pass, with which the others are compared
            graph = cast_linear_weights(with_lean_encoder(graph) if device == "cpu" else graph, dtype)
        self._graph = graph
        self._device = device
        self._dtype = dtype

    def run(self, arrays: Arrays) -> Scores:
        """Return the scores on the CPU, so that decoding never waits for the device."""
        hints = {
            "token_lengths": arrays["attention_mask"].sum(axis=1).tolist(),
            "word_lengths": arrays["text_lengths"][:, 0].tolist(),
        }
        with translate_device_errors(), torch.inference_mode(), autocast(self._device, self._dtype):
            logits = self._graph(
                *(copy_to_device(arrays[name], self._device) for name in self._graph.inputs), **hints
            )
            return {"logits": logits.float().cpu().numpy()}

    def release_memory(self) -> None:
        """Give cached device memory back."""
        if self._device == "cuda":
            torch.cuda.empty_cache()


def copy_to_device(array: NDArray[Any], device: str) -> torch.Tensor:
    """Return the array on the device; the copy may still be under way."""
    tensor = torch.from_numpy(array)
    return tensor if device == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def autocast(device: str, dtype: torch.dtype) -> contextlib.AbstractContextManager[None]:
    """Return a context in which matrices are multiplied in this precision."""
    if dtype is torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device, dtype=dtype)
