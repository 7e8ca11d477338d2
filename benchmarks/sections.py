"""The sections of `python -m benchmarks`: each measures one subject and adds its rows to the figures."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping

from benchmarks import peers
from benchmarks.figures import Figures, Value
from benchmarks.measurements import accept, accuracy, contests, gpu, labels, path, scale, starts
from benchmarks.measurements.contests import Size

FASTER = 20
"""Multiple of gleaner-small's speed on two cores: fast enough that the other processes use all cores."""
LABELS_DOCUMENTS = 16
GPU_TIMES = 64
"""Multiple of the other sections' texts for a GPU, which reads as many in the same time."""


def _measure_gpu(now: Figures, size: Size) -> None:
    """Measure the DeBERTa-sized model on a CUDA device."""
    if not gpu.has_device():
        print("gpu: torch finds no CUDA device; skipped")
        return
    now.values["gpu"] = gpu.measure_gpu(GPU_TIMES * size.documents, size.load_s)


def _measure_accuracy(now: Figures, size: Size) -> None:
    """Measure F1 of every runtime and precision, with fp32's as the base."""
    read = accuracy.load_examples(size.examples)
    if read is None:
        print("accuracy: no data (set GLEANER_DATA); skipped")
        return
    scores = accuracy.measure_f1(*read)
    base = next(iter(scores.values()))
    now.values["accuracy"] = [
        Value(f"F1, {way}", score, "", f">= {base - accuracy.POINTS:.2f}") for way, score in scores.items()
    ]


def _measure_labels(now: Figures, size: Size) -> None:
    """Measure a thousand labels: with a bi-encoder, and with a uni-encoder of its size in many passes."""
    rates = labels.measure_labels(LABELS_DOCUMENTS, min(3, size.rounds))
    few, many = rates["bi-encoder", labels.FEW], rates["bi-encoder", labels.MANY]
    now.values["labels"] = [
        *(Value(f"{model}, {count:,} labels", rate, "documents/s") for (model, count), rate in rates.items()),
        Value("bi-encoder: many labels / few", many / few, "", ">= 0.5"),
        Value("many labels: bi-encoder / uni-encoder", many / rates["uni-encoder", labels.MANY], "", ">= 50"),
    ]


def _measure_path(now: Figures, size: Size) -> None:
    """Measure the latency added to the model call, and the rate of accepted jobs."""
    call, bare = path.measure_path(size.calls)
    rates = accept.measure_accept(peers.CLIENTS, size.accept_s, min(3, size.rounds))
    jobs, cpu = rates["gateway"]
    now.values["path"] = [
        Value("/v1/extract of one short text, idle stack", call, "ms"),
        Value("the bare model call", bare, "ms"),
        Value("the path adds", call - bare, "ms", "<= 6"),
        Value("one-document jobs accepted per second", jobs),
        Value("CPU of the gateway per job", cpu, "ms"),
        Value("accepted / bare route", jobs / rates["bare"][0], "", ">= 0.5"),
    ]


def _measure_scale(now: Figures, size: Size) -> None:
    """Measure one ledger's limit, growth with workers, and ten times the documents."""
    cores = len(os.sched_getaffinity(0))
    costs = scale.measure_costs(size.scale_documents, scale.FAKE_PACE_S)
    rows = [
        Value("CPU per document in a large job: server", 1e6 * costs.server_s, "µs"),
        Value("CPU per document in a large job: gateway", 1e6 * costs.gateway_s, "µs"),
        Value("CPU per document in a large job: worker outside the model", 1e6 * costs.worker_s, "µs"),
        Value("CPU per document in a large job: the model's stand-in, not included", 1e6 * costs.stand_in_s, "µs"),
        Value(
            "CPU per document: Celery, ledger, Python outside the model",
            1e3 * (costs.worker_s + costs.server_s),
            "ms",
            "<= 0.4",
        ),
        Value("commands per document", costs.commands),
        Value("memory of an open document", costs.open_bytes, "bytes"),
        Value("documents per second of one ledger", costs.ledger_rate),
        Value("workers of one ledger", costs.workers_per_ledger),
    ]
    fast_s = scale.FAKE_PACE_S / FASTER
    fast = dataclasses.replace(costs, model_s=scale.measure_model_s(fast_s, 4 * size.grow_documents))
    for kind, prediction, pace_s, count in (
        ("", costs, scale.FAKE_PACE_S, size.grow_documents),
        (f" of {FASTER} times the speed", fast, fast_s, 8 * size.grow_documents),
    ):
        for growth in scale.measure_growth(prediction, size.workers, pace_s, cores, count):
            rows.append(Value(f"{growth.workers} workers{kind}, measured", growth.measured, "documents/s"))
            rows.append(Value(f"{growth.workers} workers{kind}, predicted", growth.predicted, "documents/s"))
    ten = scale.measure_tenfold(size.tenfold_documents, fast_s)
    rows.append(Value("ten times the documents: time", ten.time, "", "<= 10.5"))
    rows.extend(
        Value(f"ten times the documents: {part} grew", mb, "MB", "<= 2") for part, mb in ten.grown_mb.items()
    )
    now.values["scale"] = rows


def _measure_starts(now: Figures, size: Size) -> None:
    """Measure the time from a process's exec until it serves."""
    gateway, (first, later) = starts.measure_gateways(size.starts), starts.measure_workers(size.starts)
    now.values["starts"] = [
        Value("gateway ready", gateway.ready_s, "s", "<= 2"),
        Value("gateway: memory when ready", gateway.rss_mb, "MB"),
        Value("worker ready, model cache empty", first.ready_s, "s"),
        Value("worker ready, model cache warm", later.ready_s, "s"),
        Value("waiting document done, model cache warm", later.answer_s, "s", "<= 10"),
        Value("worker: peak memory, model cache empty", first.peak_mb, "MB", "<= 3000"),
        Value("worker: memory when ready", first.rss_mb, "MB"),
        Value("worker: peak memory, model cache warm", later.peak_mb, "MB"),
        Value("worker: memory when ready, model cache warm", later.rss_mb, "MB"),
    ]


SECTIONS: Mapping[str, Callable[[Figures, Size], None]] = {
    "speed": contests.measure_speed,
    "mixes": contests.measure_other_mixes,
    "medium": contests.measure_medium,
    "gpu": _measure_gpu,
    "accuracy": _measure_accuracy,
    "labels": _measure_labels,
    "path": _measure_path,
    "scale": _measure_scale,
    "starts": _measure_starts,
}
