"""torch's errors about a device -> those of an engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from worker.protocols import EngineBroken, OutOfMemory


@contextlib.contextmanager
def translate_device_errors() -> Iterator[None]:
    """Raise OutOfMemory for a full device and EngineBroken for a lost one; other errors pass unchanged."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory from error
    except RuntimeError as error:
        text = str(error)
        if "can't allocate memory" in text or "not enough memory" in text:
            raise OutOfMemory from error
        if text.startswith("CUDA error") or type(error).__name__ == "AcceleratorError":
            raise EngineBroken(type(error).__name__) from error
        raise
