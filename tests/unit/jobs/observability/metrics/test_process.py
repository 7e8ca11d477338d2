"""Metrics of a process and of GPUs, by a stand-in for NVML: the machine of a test has no GPU."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from jobs.observability.metrics import register_process_metrics

MIG = 1
"""The second device is a slice of one, which has no utilization."""


class NVMLError(Exception):
    """Stands in for pynvml's function."""


def make_nvml(devices: int) -> SimpleNamespace:
    """Return the part of pynvml that is read; its handles are numbers."""

    def read_utilization(gpu: int) -> SimpleNamespace:
        if gpu == MIG:
            raise NVMLError("Not Supported")
        return SimpleNamespace(gpu=35)

    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: devices,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(used=1000 * (gpu + 1), total=9000),
        nvmlDeviceGetUtilizationRates=read_utilization,
        nvmlDeviceGetTemperature=lambda _gpu, _kind: 40,
    )


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return the registry of a process."""
    return CollectorRegistry()


def test_gpus_are_read_at_each_scrape(monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry) -> None:
    """Each device has a sample, but not for a reading that a device does not support."""
    monkeypatch.setitem(sys.modules, "pynvml", make_nvml(2))
    register_process_metrics(registry)

    def readings(name: str) -> list[float | None]:
        return [registry.get_sample_value(f"gleaner_gpu_{name}", {"gpu": gpu}) for gpu in "01"]

    assert readings("memory_used_bytes") == [1000, 2000]
    assert readings("memory_limit_bytes") == [9000, 9000]
    assert readings("busy_ratio") == [0.35, None]
    assert readings("temperature_celsius") == [40, 40]


def test_without_a_gpu_the_process_is_shown(monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry) -> None:
    """No library, no driver, no device: the other metrics are there."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    register_process_metrics(registry)

    assert registry.get_sample_value("process_resident_memory_bytes")
    assert not any(metric.name.startswith("gleaner_gpu") for metric in registry.collect())


def test_a_parent_shows_the_sums_of_its_children(
    monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry
) -> None:
    """Then its own CPU and memory are left out: they are in the sums."""

    class Nothing(Collector):
        def collect(self) -> list[object]:  # type: ignore[override]
            return []

    monkeypatch.setitem(sys.modules, "pynvml", None)
    register_process_metrics(registry, Nothing())

    assert registry.get_sample_value("process_resident_memory_bytes") is None
    assert any(metric.name == "python_info" for metric in registry.collect())
