"""The meaning of torch's errors."""

from __future__ import annotations

import pytest
import torch

from worker.model.runtimes.device_errors import translate_device_errors
from worker.protocols import EngineBroken, OutOfMemory

AcceleratorError = type("AcceleratorError", (RuntimeError,), {})


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
        (MemoryError(), OutOfMemory),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"), OutOfMemory),
        (RuntimeError("not enough memory: you tried to allocate 9 bytes"), OutOfMemory),
        (RuntimeError("CUDA error: device-side assert triggered"), EngineBroken),
        (AcceleratorError("unspecified launch failure"), EngineBroken),
        (RuntimeError("shapes do not match"), RuntimeError),
        (ValueError("CUDA error"), ValueError),
    ],
)
def test_errors_of_the_device_are_told_apart(error: Exception, meaning: type[Exception]) -> None:
    """A smaller batch may fit a full device; a lost one needs a new process; others are the batch's own."""
    with pytest.raises(meaning) as caught, translate_device_errors():
        raise error
    assert type(caught.value) is meaning
    assert caught.value is error or caught.value.__cause__ is error
