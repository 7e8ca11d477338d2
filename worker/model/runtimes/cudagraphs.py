"""The forward pass on CUDA with nothing to wait for but the device: recorded for small micro-batches of one shape.

A small pass is a thousand launches of kernels that are done before the next one is launched; a CUDA graph launches
them all at once. Scores travel back on a stream of their own: the model's thread goes on, and the decoder's waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from worker.model.collate import Arrays, word_slots
from worker.model.decode import Scores
from worker.model.runtimes.graph_cache import Replays, Shape, filled
from worker.model.runtimes.torch import device_errors
from worker.model.static_graph import FixedGraph
from worker.protocols import OutOfMemory

WARM_UPS = 3
"""Passes before one is recorded: libraries choose kernels and make their workspaces in the first ones."""


class CudaGraphsRuntime:
    """A graph on the CUDA device, in one precision. For one thread at a time; what `run` returns is for any thread.

    Args:
        graph: whose shapes the host knows.
        dtype: what products are computed in.
        longest: pieces that a row may have.
    """

    streams = 1
    express_tokens = 0

    def __init__(self, graph: FixedGraph, dtype: torch.dtype, longest: int) -> None:
        self._graph = graph
        self._dtype = dtype
        self._longest = longest
        self._compute: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._back: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool: Any = None  # one pass at a time: all recordings share the memory of what lies in between
        self._replays: Replays[_Recording] = Replays(self._recorded)

    def run(self, arrays: Arrays) -> Scores:
        """Return the scores, still on their way; the device has computed them.

        Raises:
            OutOfMemory: the batch did not fit.
            EngineBroken: the device is lost.
        """
        real = self._shape(arrays)
        shape = filled(real, self._longest)
        with device_errors(), torch.inference_mode(), torch.cuda.stream(self._compute):
            recording = self._replays.of(shape) if shape else None
            if shape and recording:
                recording.replay({name: _pinned(arrays[name], _size(name, shape)) for name in self._graph.inputs})
                every = recording.logits[: real.rows, : real.words, :, : real.labels]
                logits = every.clone(memory_format=torch.contiguous_format)  # the next replay writes over it
            else:
                inputs = {name: _pinned(arrays[name]).to("cuda", non_blocking=True) for name in self._graph.inputs}
                logits = self._forward(inputs, real)
            return self._fetched(logits)

    def _shape(self, arrays: Arrays) -> Shape:
        rows, pieces = arrays["input_ids"].shape
        words = int(word_slots(int(arrays["text_lengths"].max())))
        return Shape(rows, pieces, words, self._graph.labels(arrays["input_ids"], arrays["attention_mask"]))

    def _forward(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> torch.Tensor:
        tensors = (inputs[name] for name in self._graph.inputs)
        with torch.autocast("cuda", dtype=self._dtype, enabled=self._dtype is not torch.float32):
            logits: torch.Tensor = self._graph(*tensors, words=shape.words, labels=shape.labels)[0]
        return logits.float()

    def _fetched(self, logits: torch.Tensor) -> Scores:
        """Start the way back, and wait for the computing: what makes a device fail must be known when it does."""
        computed: Any = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        there: Any = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        computed.record(self._compute)
        self._back.wait_event(computed)
        host = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True)
        with torch.cuda.stream(self._back):
            host.copy_(logits, non_blocking=True)
            there.record(self._back)
        computed.synchronize()
        return Arriving(there, host.numpy(), logits)

    def _recorded(self, shape: Shape) -> _Recording:
        if not len(self._replays):  # a pool that nothing holds any more may not be taken up again
            self._pool = torch.cuda.graph_pool_handle()
        try:
            return _Recording(self._forward, self._graph.inputs, shape, self._pool, self._compute)
        except torch.OutOfMemoryError as error:
            raise OutOfMemory from error
        except RuntimeError:
            # What cannot be recorded is a CUDA error like that of a lost device, which would not answer this.
            with device_errors():
                torch.cuda.synchronize()
            raise

    def release_memory(self) -> None:
        """Give cached device memory back, recordings with what they hold first."""
        self._compute.synchronize()
        self._replays.clear()
        torch.cuda.empty_cache()


class _Recording:
    """A forward pass of one shape, as a CUDA graph that reads its inputs from where they lie.

    Attributes:
        logits: where the pass leaves them, until the next replay of any recording.
    """

    def __init__(self, forward: Any, names: Any, shape: Shape, pool: Any, stream: Any) -> None:
        self._inputs = {name: torch.zeros(_size(name, shape), dtype=torch.int64, device="cuda") for name in names}
        for _ in range(WARM_UPS):
            forward(self._inputs, shape)
        self._graph = torch.cuda.CUDAGraph()
        # thread_local: the decoder's thread may wait for its scores while this is being recorded.
        with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            self.logits: torch.Tensor = forward(self._inputs, shape)

    def replay(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Run it on these, which have its shape."""
        for name, value in inputs.items():
            self._inputs[name].copy_(value, non_blocking=True)
        self._graph.replay()


class Arriving(Mapping[str, NDArray[Any]]):
    """Scores on their way from the device: whoever asks for them waits until they are there.

    Args:
        there: when they are.
        logits: where they arrive.
        source: where they come from; must not be given back before.
    """

    def __init__(self, there: Any, logits: NDArray[Any], source: torch.Tensor) -> None:
        self._there = there
        self._logits = logits
        self._source: torch.Tensor | None = source

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name != "logits":
            raise KeyError(name)
        if self._source is not None:
            with device_errors():
                self._there.synchronize()
            self._source = None
        return self._logits

    def __iter__(self) -> Iterator[str]:
        return iter(("logits",))

    def __len__(self) -> int:
        return 1


def _size(name: str, shape: Shape) -> tuple[int, int]:
    return (shape.rows, 1) if name == "text_lengths" else (shape.rows, shape.pieces)


def _pinned(array: NDArray[Any], size: tuple[int, int] | None = None) -> torch.Tensor:
    """In memory that the device reads by itself, and filled up with zeros, which mean nothing, to this size."""
    rows, columns = array.shape
    host = torch.empty(size or array.shape, dtype=torch.int64, pin_memory=True)
    view = host.numpy()
    view[:rows, :columns] = array
    if size:
        view[rows:] = 0
        view[:, columns:] = 0
    return host
