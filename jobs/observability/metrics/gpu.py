"""Metrics of the GPUs that a process can see."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class GpuCollector(Collector):
    """Reads the GPUs by NVML.

    Raises:
        Exception: there is no NVML library (the extra `gpu`), no driver, or no device.
    """

    def __init__(self) -> None:
        self._nvml = nvml = import_module("pynvml")  # optional: the extra `gpu`
        nvml.nvmlInit()
        self._devices = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not touch the device."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield one sample per device and reading; readings that a device does not support are left out (MIG)."""
        nvml = self._nvml
        readings: tuple[tuple[str, str, Callable[[Any], float]], ...] = (
            (
                "gleaner_gpu_memory_used_bytes",
                "Device memory in use by all processes.",
                lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
            ),
            (
                "gleaner_gpu_memory_limit_bytes",
                "Total device memory.",
                lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
            ),
            (
                "gleaner_gpu_busy_ratio",
                "Share of time in which a kernel ran.",
                lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
            ),
            (
                "gleaner_gpu_temperature_celsius",
                "Temperature of the device.",
                lambda gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
            ),
        )
        for name, help_, read in readings:
            family = GaugeMetricFamily(name, help_, labels=["gpu"])
            for number, device in enumerate(self._devices):
                with contextlib.suppress(nvml.NVMLError):
                    family.add_metric([str(number)], read(device))
            yield family
