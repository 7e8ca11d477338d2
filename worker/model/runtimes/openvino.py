"""The forward pass on OpenVINO, on CPUs, in 32 or, where the CPU multiplies them faster, in 16 or 8 bits."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock, get_native_id

import numpy as np
import openvino

from worker.model.collate import Arrays
from worker.model.decode import Scores
from worker.model.runtimes.int8 import compress_weights
from worker.protocols import OutOfMemory

_Requests = list[openvino.InferRequest]

HINTS = {"fp32": "f32", "bf16": "bf16"}
INT8_GROUP = 128
"""Numbers of a vector that share a scale where they are multiplied in 8 bits. With 32 a pass took a quarter longer,
and scores were as far off."""

KERNELS_KEPT = 512
"""OpenVINO keeps what it prepared for each input shape, by default up to 5,000 kernels: gleaner-small took 2.2 GB
after 500 micro-batches, and kept growing. With 64 a short text alone waited 10 ms for what was there before. Each
stream keeps its own."""

MOST_STREAMS = 2
"""Threads that share a pass wait for each other after every operation, and for one whose core somebody else took
for a moment. Two passes beside each other, on half of the cores each, read a tenth to two fifths more texts on two
cores. More streams would leave a text alone a smaller part of the cores."""

EXPRESS_TOKENS = 256
EXPRESS_MODEL_BYTES = 256 << 20
"""Of the export of a model that has an express. Beside two long rows a short text took 103 ms on it, 701 in turn
with them; beside ordinary micro-batches 67 and 182; the others lost nothing (two busy cores, medians). It costs the
memory of a second copy of the weights, as OpenVINO lays them out."""


STREAM_NICENESS = 4
"""Added to that of the threads that compute passes of any size, so that those that serve a short text run first:
the express, Python's threads, a gateway on the same cores. Next to an ordinary job a short text took 27 ms, not
39. With 10, jobs of one document waited behind the cutting of long texts."""


def precisions() -> tuple[str, ...]:
    """Return the precisions that this CPU computes in hardware and that `auto` may choose."""
    known = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name in HINTS if name.upper() in known)


class OpenVinoRuntime:
    """An exported graph, compiled for this CPU.

    Attributes:
        streams: passes that may run at once, on as many cores each.
        express_tokens: padded tokens of a pass that may run beside them; 0 for large models.

    Args:
        path: the ONNX export.
        precision: a key of `HINTS`, or `int8`.
        threads: cores to use.
    """

    def __init__(self, path: Path, precision: str, threads: int) -> None:
        self.streams = MOST_STREAMS if threads % MOST_STREAMS == 0 else 1
        self.express_tokens = EXPRESS_TOKENS if path.stat().st_size <= EXPRESS_MODEL_BYTES else 0
        self._threads = threads
        self._core = openvino.Core()
        self._model = self._core.read_model(path)
        self._options = {
            "NUM_STREAMS": self.streams,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": HINTS[precisions()[-1] if precision == "int8" else precision],
            "CPU_RUNTIME_CACHE_CAPACITY": KERNELS_KEPT,
        }
        if precision == "int8":
            compress_weights(self._model)
            self._options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = INT8_GROUP
        self._inputs = [port.get_any_name() for port in self._model.inputs]
        # What its Python side prepares at the first use of an array, two threads at once would wait for for ever.
        _ = openvino.Tensor(np.zeros(1), shared_memory=True).data
        self._lock = Lock()
        self._idle: tuple[_Requests, _Requests] | None = self._compiled()

    def _compiled(self) -> tuple[_Requests, _Requests]:
        """Requests for passes of any size, and for small ones."""
        with ThreadPoolExecutor(1, initializer=_lower_priority) as executor:  # whose niceness the streams inherit
            streams = executor.submit(self._core.compile_model, self._model, "CPU", self._options).result()
        requests = [streams.create_infer_request() for _ in range(self.streams)]
        if not self.express_tokens:
            return requests, []
        alone = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": max(1, self._threads // self.streams)}
        express = self._core.compile_model(self._model, "CPU", {**self._options, **alone})
        return requests, [express.create_infer_request()]

    def run(self, arrays: Arrays) -> Scores:
        """Return the scores of a micro-batch.

        Raises:
            OutOfMemory: the batch did not fit.
        """
        small = arrays["input_ids"].size <= self.express_tokens
        with self._lock:
            idle = self._idle = self._compiled() if self._idle is None else self._idle
            requests = next(kind for kind in (idle[::-1] if small else idle) if kind)
            request = requests.pop()
        try:
            # `infer` would compute in this thread, with its priority and not with the stream's.
            request.start_async({name: arrays[name] for name in self._inputs}, share_inputs=True)
            request.wait()
            logits = np.array(request.get_output_tensor(0).data, np.float32)  # a copy: the next pass writes over it
        except Exception as error:
            # What was compiled keeps half of the failed pass's shapes, and fails on any other from then on.
            with self._lock:
                self._idle = None if self._idle is idle else self._idle
            if "alloc" in str(error).lower():
                raise OutOfMemory from error
            raise
        with self._lock:
            requests.append(request)
        return {"logits": logits}

    def release_memory(self) -> None:
        """Nothing is kept back that could be given."""


def _lower_priority() -> None:
    os.setpriority(os.PRIO_PROCESS, get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + STREAM_NICENESS)
