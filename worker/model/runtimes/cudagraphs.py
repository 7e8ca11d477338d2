"""The forward pass on CUDA, recorded as a CUDA graph for small micro-batches whose shape recurs.

A small pass is a thousand launches of kernels that end before the next one is launched; a CUDA graph launches them
all at once. Scores are copied back on a separate stream: the model's thread continues, and the decoder's waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from worker.model.collate import Arrays, word_slots
from worker.model.decode import Scores
from worker.model.runtimes import Runtime
from worker.model.runtimes.device_errors import translate_device_errors
from worker.model.runtimes.graph_cache import GraphCache, Shape, padded_shape
from worker.model.static_graph import StaticGraph
from worker.protocols import OutOfMemory

WARM_UPS = 3
"""Passes before a recording: in the first ones libraries choose kernels and allocate their workspaces."""


class CudaGraphsRuntime(Runtime):
    """A graph on the CUDA device, in one precision. For one thread at a time; any thread may read the scores.

    Args:
        graph: a forward pass of static shapes.
        dtype: precision of matrix products.
        longest: tokens that a row may have.
    """

    def __init__(self, graph: StaticGraph, dtype: torch.dtype, longest: int) -> None:
        self._graph = graph
        self._dtype = dtype
        self._longest = longest
        self._compute: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._back: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool: Any = None  # one pass at a time: all recordings share the memory of intermediate results
        self._cache: GraphCache[_Recording] = GraphCache(self._record)

    def run(self, arrays: Arrays) -> Scores:
        """Return the scores, computed but perhaps not yet copied from the device."""
        real = self._measure_shape(arrays)
        shape = padded_shape(real, self._longest)
        with translate_device_errors(), torch.inference_mode(), torch.cuda.stream(self._compute):
            recording = self._cache.get(shape) if shape else None
            if shape and recording:
                inputs = {name: _pin(arrays[name], _input_size(name, shape)) for name in self._graph.inputs}
                recording.replay(inputs)
                padded = recording.logits[: real.rows, : real.words, :, : real.labels]
                logits = padded.clone(memory_format=torch.contiguous_format)  # the next replay overwrites it
            else:
                inputs = {name: _pin(arrays[name]).to("cuda", non_blocking=True) for name in self._graph.inputs}
                logits = self._forward(inputs, real)
            return self._copy_back(logits)

    def _measure_shape(self, arrays: Arrays) -> Shape:
        rows, tokens = arrays["input_ids"].shape
        words = int(word_slots(int(arrays["text_lengths"].max())))
        return Shape(rows, tokens, words, self._graph.count_labels(arrays["input_ids"], arrays["attention_mask"]))

    def _forward(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> torch.Tensor:
        tensors = (inputs[name] for name in self._graph.inputs)
        with torch.autocast("cuda", dtype=self._dtype, enabled=self._dtype is not torch.float32):
            logits: torch.Tensor = self._graph(*tensors, words=shape.words, labels=shape.labels)
        return logits.float()

    def _copy_back(self, logits: torch.Tensor) -> Scores:
        """Start the copy to the host, and wait for the computation, so that its errors are raised here."""
        computed: Any = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        copied: Any = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        computed.record(self._compute)
        self._back.wait_event(computed)
        host = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True)
        with torch.cuda.stream(self._back):
            host.copy_(logits, non_blocking=True)
            copied.record(self._back)
        computed.synchronize()
        return DeferredScores(copied, host.numpy(), logits)

    def _record(self, shape: Shape) -> _Recording:
        if not len(self._cache):  # a pool without recordings must not be reused
            self._pool = torch.cuda.graph_pool_handle()
        try:
            return _Recording(self._forward, self._graph.inputs, shape, self._pool, self._compute)
        except torch.OutOfMemoryError as error:
            raise OutOfMemory from error
        except RuntimeError:
            # Both a pass that cannot be recorded and a lost device raise a CUDA error; only the latter fails here.
            with translate_device_errors():
                torch.cuda.synchronize()
            raise

    def release_memory(self) -> None:
        """Drop all recordings, and give cached device memory back."""
        self._compute.synchronize()
        self._cache.clear()
        torch.cuda.empty_cache()


class _Recording:
    """A forward pass of one shape, as a CUDA graph that reads its inputs at fixed addresses.

    Attributes:
        logits: the pass's output, valid until the next replay of any recording.
    """

    def __init__(self, forward: Any, names: Any, shape: Shape, pool: Any, stream: Any) -> None:
        self._inputs = {
            name: torch.zeros(_input_size(name, shape), dtype=torch.int64, device="cuda") for name in names
        }
        for _ in range(WARM_UPS):
            forward(self._inputs, shape)
        self._graph = torch.cuda.CUDAGraph()
        # thread_local: the decoder's thread may wait for its scores while this is being recorded.
        with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            self.logits: torch.Tensor = forward(self._inputs, shape)

    def replay(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Run the pass on inputs of its shape."""
        for name, value in inputs.items():
            self._inputs[name].copy_(value, non_blocking=True)
        self._graph.replay()


class DeferredScores(Mapping[str, NDArray[Any]]):
    """Scores being copied from the device: reading them waits for the copy.

    Args:
        copied: the event at the end of the copy.
        logits: the copy.
        source: the tensor on the device; must not be freed before.
    """

    def __init__(self, copied: Any, logits: NDArray[Any], source: torch.Tensor) -> None:
        self._copied = copied
        self._logits = logits
        self._source: torch.Tensor | None = source

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name != "logits":
            raise KeyError(name)
        if self._source is not None:
            with translate_device_errors():
                self._copied.synchronize()
            self._source = None
        return self._logits

    def __iter__(self) -> Iterator[str]:
        return iter(("logits",))

    def __len__(self) -> int:
        return 1


def _input_size(name: str, shape: Shape) -> tuple[int, int]:
    return (shape.rows, 1) if name == "text_lengths" else (shape.rows, shape.tokens)


def _pin(array: NDArray[Any], size: tuple[int, int] | None = None) -> torch.Tensor:
    """Return the array in pinned memory, which the device can read directly, padded with zeros to this size."""
    rows, columns = array.shape
    host = torch.empty(size or array.shape, dtype=torch.int64, pin_memory=True)
    view = host.numpy()
    view[:rows, :columns] = array
    if size:
        view[rows:] = 0
        view[:, columns:] = 0
    return host
