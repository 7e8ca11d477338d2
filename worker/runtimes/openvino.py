"""The forward pass on OpenVINO, on CPUs, in 32 or, where the CPU multiplies them faster, in 16 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino

from worker.collate import Arrays
from worker.contract import OutOfMemory
from worker.decode import Scores

HINTS = {"fp32": "f32", "bf16": "bf16"}

KERNELS_KEPT = 512
"""OpenVINO keeps what it prepared for each input shape, by default up to 5,000 kernels: gleaner-small took 2.2 GB
after 500 micro-batches, and kept growing. With 64 a short text alone waited 10 ms for what was there before."""


def precisions() -> tuple[str, ...]:
    """What this CPU computes in hardware."""
    known = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name in HINTS if name.upper() in known)


class OpenVinoRuntime:
    """An exported graph, compiled for this CPU.

    Args:
        path: the ONNX export.
        precision: a key of `HINTS`.
        threads: cores to use.
    """

    def __init__(self, path: Path, precision: str, threads: int) -> None:
        self._core = openvino.Core()
        self._model = self._core.read_model(path)
        self._options = {
            "PERFORMANCE_HINT": "LATENCY",  # one micro-batch at a time, on all cores
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "CPU_RUNTIME_CACHE_CAPACITY": KERNELS_KEPT,
        }
        self._inputs = [port.get_any_name() for port in self._model.inputs]
        self._request: openvino.InferRequest | None = self._compiled()

    def _compiled(self) -> openvino.InferRequest:
        return self._core.compile_model(self._model, "CPU", self._options).create_infer_request()

    def run(self, arrays: Arrays, threshold: float) -> Scores:
        """Scores; an exported graph has no use for the threshold.

        Raises:
            OutOfMemory: the batch did not fit.
        """
        try:
            self._request = self._request or self._compiled()
            outputs = self._request.infer({name: arrays[name] for name in self._inputs}, share_inputs=True)
        except Exception as error:
            # What was compiled keeps half of the failed pass's shapes, and fails on any other from then on.
            self._request = None
            if "alloc" in str(error).lower():
                raise OutOfMemory from error
            raise
        return {"logits": np.array(outputs[0], np.float32)}  # a copy: the next pass writes over it

    def release_memory(self) -> None:
        """Nothing is kept back that could be given."""
