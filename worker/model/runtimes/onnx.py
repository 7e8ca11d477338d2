"""The forward pass on ONNX Runtime, on CPUs, in 32 bits."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from worker.model.collate import Arrays
from worker.model.decode import Scores
from worker.model.runtimes import Runtime
from worker.protocols import OutOfMemory

ERRORS_ONLY = 3


class OnnxRuntime(Runtime):
    """An exported graph in an ONNX Runtime session."""

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = ERRORS_ONLY
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = [port.name for port in self._session.get_inputs()]

    def run(self, arrays: Arrays) -> Scores:
        """Return the scores of a micro-batch."""
        try:
            [logits] = self._session.run(["logits"], {name: arrays[name] for name in self._inputs})
        except Exception as error:
            if "alloc" in str(error).lower():
                raise OutOfMemory from error
            raise
        return {"logits": logits}
