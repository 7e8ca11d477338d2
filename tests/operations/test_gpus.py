"""GPU metrics against a stand-in for NVIDIA's C library: no test machine has a GPU.

The library alone is replaced. NVIDIA's Python binding calls it through C function pointers, and it writes into
memory laid out by `nvml.h`, so that names, structures and units are those of a real driver.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_int, c_uint, c_ulonglong, c_void_p

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from jobs.observability import metrics

SUCCESS, NOT_SUPPORTED, DRIVER_NOT_LOADED, GPU_IS_LOST = 0, 3, 9, 15
GIB = 2**30


class NvmlMemory(ctypes.Structure):
    """`nvmlMemory_t`, in bytes."""

    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class NvmlUtilization(ctypes.Structure):
    """`nvmlUtilization_t`, in per cent."""

    _fields_ = (("gpu", c_uint), ("memory", c_uint))


class Library:
    """Stands in for `dlopen` of libnvidia-ml.so.1 on a machine with two devices; the second is divided (MIG).

    Args:
        driver: status that initialising returns.
    """

    def __init__(self, driver: int = SUCCESS) -> None:
        self.lost = False
        self.nvmlInitWithFlags = CFUNCTYPE(c_int, c_uint)(lambda flags: driver)
        self.nvmlDeviceGetCount_v2 = CFUNCTYPE(c_int, c_void_p)(self._count)
        self.nvmlDeviceGetHandleByIndex_v2 = CFUNCTYPE(c_int, c_uint, c_void_p)(self._handle)
        self.nvmlDeviceGetMemoryInfo = CFUNCTYPE(c_int, c_void_p, c_void_p)(self._memory)
        self.nvmlDeviceGetUtilizationRates = CFUNCTYPE(c_int, c_void_p, c_void_p)(self._busy)
        self.nvmlDeviceGetTemperature = CFUNCTYPE(c_int, c_void_p, c_uint, c_void_p)(self._heat)

    def _count(self, into: int) -> int:
        c_uint.from_address(into).value = 2
        return SUCCESS

    def _handle(self, index: int, into: int) -> int:
        c_void_p.from_address(into).value = 0x100 + index
        return SUCCESS

    def _memory(self, device: int, into: int) -> int:
        answer = NvmlMemory.from_address(into)
        total, used = (80 * GIB, 30 * GIB) if device == 0x100 else (10 * GIB, GIB)
        answer.total, answer.free, answer.used = total, total - used, used
        return self._end()

    def _busy(self, device: int, into: int) -> int:
        if device != 0x100:
            return NOT_SUPPORTED
        answer = NvmlUtilization.from_address(into)
        answer.gpu, answer.memory = 37, 12
        return self._end()

    def _heat(self, device: int, sensor: int, into: int) -> int:
        c_uint.from_address(into).value = 61 if (device, sensor) == (0x100, 0) else 48
        return self._end()

    def _end(self) -> int:
        return GPU_IS_LOST if self.lost else SUCCESS


Open = Callable[[str], Library]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Callable[[Open], None]:
    """NVIDIA's binding, as new, opening this library."""

    def install(open_library: Open) -> None:
        monkeypatch.delitem(sys.modules, "pynvml", raising=False)
        binding = importlib.import_module("pynvml")
        monkeypatch.setitem(sys.modules, "pynvml", binding)
        monkeypatch.setattr(binding, "CDLL", open_library)

    return install


def shown() -> dict[str, float]:
    """GPU metrics of a process that starts now; that it shows its processor time proves that it did start."""
    registry = CollectorRegistry()
    metrics.register_process_metrics(registry)
    return read(registry)


def read(registry: CollectorRegistry) -> dict[str, float]:
    """Its GPU metrics."""
    lines = generate_latest(registry).decode().splitlines()
    assert any(line.startswith("process_cpu_seconds_total ") for line in lines)
    return {
        name: float(value) for line in lines if line.startswith("gleaner_gpu_") for name, value in [line.split(" ")]
    }


def test_every_device_shows_what_it_answers_in_base_units(driver: Callable[[Open], None]) -> None:
    """Bytes, a ratio of 1, degrees Celsius; unavailable values (here utilisation) are left out."""
    opened = []

    def open_library(name: str) -> Library:
        opened.append(name)
        return Library()

    driver(open_library)
    assert shown() == {
        'gleaner_gpu_memory_used_bytes{gpu="0"}': 30 * GIB,
        'gleaner_gpu_memory_limit_bytes{gpu="0"}': 80 * GIB,
        'gleaner_gpu_busy_ratio{gpu="0"}': 0.37,
        'gleaner_gpu_temperature_celsius{gpu="0"}': 61,
        'gleaner_gpu_memory_used_bytes{gpu="1"}': GIB,
        'gleaner_gpu_memory_limit_bytes{gpu="1"}': 10 * GIB,
        'gleaner_gpu_temperature_celsius{gpu="1"}': 48,
    }
    assert opened == ["libnvidia-ml.so.1"]


def test_a_device_that_falls_off_the_bus_ends_its_metrics_and_no_scrape(driver: Callable[[Open], None]) -> None:
    """A lost GPU (Xid 79) is an error at each reading; all else is still shown."""
    library = Library()
    driver(lambda _: library)
    registry = CollectorRegistry()
    metrics.register_process_metrics(registry)
    assert len(read(registry)) == 7
    library.lost = True
    assert read(registry) == {}


def test_no_driver_no_library_no_binding_no_metrics(
    driver: Callable[[Open], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a GPU starts all the same, and shows none."""

    def no_library(_: str) -> Library:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    driver(lambda _: Library(DRIVER_NOT_LOADED))
    assert shown() == {}
    driver(no_library)
    assert shown() == {}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert shown() == {}
