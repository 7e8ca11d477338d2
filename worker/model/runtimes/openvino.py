"""The forward pass on OpenVINO, on CPUs: in 32 bits, or in 16 or 8 where the CPU multiplies these faster."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock, get_native_id

import numpy as np
import openvino
from openvino import opset13 as operations

from worker.model.collate import Arrays
from worker.model.decode import Scores
from worker.model.runtimes import Runtime
from worker.protocols import OutOfMemory

_Requests = list[openvino.InferRequest]

HINTS = {"fp32": "f32", "bf16": "bf16"}
INT8_GROUP = 128
"""Numbers of a vector that share a scale in 8-bit products. With 32 a pass took a quarter longer, and scores were
no closer."""
INT8_SIZE = 64
"""Fewest rows and columns of a matrix for which 8 bits are worthwhile."""
MAX_INT8 = 127
MAX_KERNELS = 512
"""OpenVINO caches kernels for each input shape, by default up to 5,000: gleaner-small took 2.2 GB after 500
micro-batches, and grew further. With 64 a short text alone waited 10 ms for evicted kernels. Every lane has a
cache."""
MAX_LANES = 2
"""Threads that share a pass wait for each other after every operation, also for a thread whose core another process
took for a moment. Two parallel passes, on half of the cores each, read a tenth to two fifths more texts on two
cores. More lanes would leave a single text a smaller part of the cores."""
EXPRESS_TOKENS = 256
EXPRESS_MODEL_BYTES = 256 << 20
"""Largest export for which there is an express. Next to two long rows a short text took 103 ms on it, 701 queued
behind them; next to ordinary micro-batches 67 and 182; the others lost nothing (two busy cores, medians). It costs
the memory of a second copy of the weights in OpenVINO's layout."""
LANE_NICENESS = 4
"""Added to the niceness of the lanes' threads, so that threads that serve a short text run first: the express,
Python's threads, a gateway on the same cores. Next to an ordinary job a short text took 27 ms instead of 39. With
10, jobs of one document waited behind the cutting of long texts."""


def supported_precisions() -> tuple[str, ...]:
    """Return the precisions that this CPU computes in hardware and that `auto` may choose."""
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name in HINTS if name.upper() in capabilities)


class OpenVinoRuntime(Runtime):
    """An exported graph, compiled for this CPU.

    Lanes have an equal part of the cores each; there is an express for small models.

    Args:
        path: the ONNX export.
        precision: a key of `HINTS`, or `int8`.
        threads: cores to use.
    """

    def __init__(self, path: Path, precision: str, threads: int) -> None:
        self.lanes = MAX_LANES if threads % MAX_LANES == 0 else 1
        self.express_tokens = EXPRESS_TOKENS if path.stat().st_size <= EXPRESS_MODEL_BYTES else 0
        self._threads = threads
        self._core = openvino.Core()
        self._model = self._core.read_model(path)
        self._options = {
            "NUM_STREAMS": self.lanes,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": HINTS[supported_precisions()[-1] if precision == "int8" else precision],
            "CPU_RUNTIME_CACHE_CAPACITY": MAX_KERNELS,
        }
        if precision == "int8":
            compress_weights(self._model)
            self._options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = INT8_GROUP
        self._inputs = [port.get_any_name() for port in self._model.inputs]
        # The first use of an array initialises OpenVINO's Python side; two threads doing so at once deadlock.
        _ = openvino.Tensor(np.zeros(1), shared_memory=True).data
        self._lock = Lock()
        self._idle: tuple[_Requests, _Requests] | None = self._compile()

    def _compile(self) -> tuple[_Requests, _Requests]:
        """Return inference requests for passes of any size, and for small ones."""
        with ThreadPoolExecutor(1, initializer=_lower_priority) as executor:  # the lanes inherit its niceness
            compiled = executor.submit(self._core.compile_model, self._model, "CPU", self._options).result()
        requests = [compiled.create_infer_request() for _ in range(self.lanes)]
        if not self.express_tokens:
            return requests, []
        one_lane = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": max(1, self._threads // self.lanes)}
        express = self._core.compile_model(self._model, "CPU", {**self._options, **one_lane})
        return requests, [express.create_infer_request()]

    def run(self, arrays: Arrays) -> Scores:
        """Return the scores of a micro-batch."""
        small = arrays["input_ids"].size <= self.express_tokens
        with self._lock:
            idle = self._idle = self._compile() if self._idle is None else self._idle
            requests = next(kind for kind in (idle[::-1] if small else idle) if kind)
            request = requests.pop()
        try:
            # `infer` would compute in this thread, with its priority instead of the lane's.
            request.start_async({name: arrays[name] for name in self._inputs}, share_inputs=True)
            request.wait()
            logits = np.array(request.get_output_tensor(0).data, np.float32)  # a copy: the next pass overwrites it
        except Exception as error:
            # The compiled model keeps half of the failed pass's shapes, and fails on all others from then on.
            with self._lock:
                self._idle = None if self._idle is idle else self._idle
            if "alloc" in str(error).lower():
                raise OutOfMemory from error
            raise
        with self._lock:
            requests.append(request)
        return {"logits": logits}


def _lower_priority() -> None:
    os.setpriority(os.PRIO_PROCESS, get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + LANE_NICENESS)


def compress_weights(model: openvino.Model) -> int:
    """Replace constant matrices by 8-bit ones with a scale for each output; return the number of replaced ones.

    OpenVINO then multiplies in 8 bits where the processor has VNNI instructions. Embeddings and recurrent layers
    keep their precision.
    """
    count = 0
    for product in model.get_ordered_ops():
        if product.get_type_name() != "MatMul":
            continue
        constant = product.input_value(1).get_node()
        if constant.get_type_name() != "Constant" or len(constant.shape) != 2 or min(constant.shape) < INT8_SIZE:
            continue
        options = product.get_attributes()
        weights = np.asarray(constant.data, np.float32)
        rows = weights if options["transpose_b"] else weights.T  # one row per output
        scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / MAX_INT8, np.finfo(np.float32).tiny)
        small = operations.constant(np.ascontiguousarray(np.rint(rows / scales).astype(np.int8)))
        wide = operations.multiply(operations.convert(small, "f32"), operations.constant(scales))
        replacement = operations.matmul(product.input_value(0), wide, options["transpose_a"], True)
        replacement.set_friendly_name(product.get_friendly_name())
        product.output(0).replace(replacement.output(0))
        count += 1
    model.validate_nodes_and_infer_types()
    return count
