"""Metrics of a process itself: CPU, memory, files, interpreter, and the GPUs it can see."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


def register_process_metrics(registry: CollectorRegistry, usage: Collector | None = None) -> None:
    """Register the metrics of a process: CPU, memory, files, interpreter, and the GPUs it can see.

    Args:
        registry: the registry of the process.
        usage: collector of CPU, memory and files, if not those of this process alone.
    """
    registry.register(usage or ProcessCollector(registry=None))
    for collector in (PlatformCollector, GCCollector):
        collector(registry=registry)
    with contextlib.suppress(Exception):  # no NVML library, no driver or no device
        registry.register(GpuCollector())


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
        memory, rates = nvml.nvmlDeviceGetMemoryInfo, nvml.nvmlDeviceGetUtilizationRates
        readings: tuple[tuple[str, str, Callable[[Any], float]], ...] = (
            (
                "gleaner_gpu_memory_used_bytes",
                "Device memory in use by all processes.",
                lambda gpu: memory(gpu).used,
            ),
            ("gleaner_gpu_memory_limit_bytes", "Total device memory.", lambda gpu: memory(gpu).total),
            ("gleaner_gpu_busy_ratio", "Share of time in which a kernel ran.", lambda gpu: rates(gpu).gpu / 100),
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
