"""The sections of `python -m benchmarks`: each measures one thing and puts its rows among the figures."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping

from benchmarks import peers
from benchmarks.figures import Figures, Value
from benchmarks.measurements import accept, accuracy, contests, gpu, path, scale, starts
from benchmarks.measurements.contests import Size

FASTER = 20
"""Times gleaner-small's speed on two cores: fast enough that the cores around the model are full."""
GPU_TIMES = 64
"""Times the texts of other parts that a GPU is given: it reads as many in the same time."""


def _gpu(now: Figures, size: Size) -> None:
    """The DeBERTa-sized model on a CUDA device."""
    if not gpu.here():
        print("gpu: torch sees no CUDA device; left out")
        return
    now.values["gpu"] = gpu.measure(GPU_TIMES * size.documents, size.load_s)


def _accuracy(now: Figures, size: Size) -> None:
    """F1 of every way beside fp32's."""
    read = accuracy.examples(size.examples)
    if read is None:
        print("accuracy: no data (GLEANER_DATA); left out")
        return
    scores = accuracy.measure(*read)
    base = next(iter(scores.values()))
    now.values["accuracy"] = [
        Value(f"F1, {way}", score, "", f">= {base - accuracy.POINTS:.2f}") for way, score in scores.items()
    ]


def _path(now: Figures, size: Size) -> None:
    """The way around the model."""
    call, bare = path.measure(size.calls)
    rates = accept.measure(peers.CLIENTS, size.accept_s, min(3, size.rounds))
    jobs, cpu = rates["gateway"]
    now.values["path"] = [
        Value("/v1/extract of one short text, idle stack", call, "ms"),
        Value("the bare model call", bare, "ms"),
        Value("the path adds", call - bare, "ms", "<= 6"),
        Value("one-document jobs accepted a second", jobs),
        Value("CPU of the gateway for each", cpu, "ms"),
        Value("accepted / bare route", jobs / rates["bare"][0], "", ">= 0.5"),
    ]


def _scale(now: Figures, size: Size) -> None:
    """One ledger's limit, growth with workers, and ten times the documents."""
    cores = len(os.sched_getaffinity(0))
    costs = scale.measure(size.scale_documents, scale.FAKE_PACE_S)
    rows = [
        Value("CPU a document in a large job: server", 1e6 * costs.server_s, "µs"),
        Value("CPU a document in a large job: gateway", 1e6 * costs.gateway_s, "µs"),
        Value("CPU a document in a large job: worker outside the model", 1e6 * costs.worker_s, "µs"),
        Value("CPU a document in a large job: the model's stand-in, left out", 1e6 * costs.stand_in_s, "µs"),
        Value(
            "CPU a document: Celery, ledger, Python outside the model",
            1e3 * (costs.worker_s + costs.server_s),
            "ms",
            "<= 0.4",
        ),
        Value("commands a document", costs.commands),
        Value("memory of an open document", costs.open_bytes, "bytes"),
        Value("documents a second of one ledger", costs.ledger_rate),
        Value("workers of one ledger", costs.workers_per_ledger),
    ]
    fast_s = scale.FAKE_PACE_S / FASTER
    fast = dataclasses.replace(costs, model_s=scale.model_s(fast_s, 4 * size.grow_documents))
    for kind, known, pace_s, count in (
        ("", costs, scale.FAKE_PACE_S, size.grow_documents),
        (f" of {FASTER} times the speed", fast, fast_s, 8 * size.grow_documents),
    ):
        for one in scale.grow(known, size.workers, pace_s, cores, count):
            rows.append(Value(f"{one.workers} workers{kind}, measured", one.measured, "documents/s"))
            rows.append(Value(f"{one.workers} workers{kind}, predicted", one.predicted, "documents/s"))
    ten = scale.tenfold(size.tenfold_documents, fast_s)
    rows.append(Value("ten times the documents: time", ten.time, "", "<= 10.5"))
    rows.extend(
        Value(f"ten times the documents: {part} grew", mb, "MB", "<= 2") for part, mb in ten.grown_mb.items()
    )
    now.values["scale"] = rows


def _starts(now: Figures, size: Size) -> None:
    """From a process's exec until it serves."""
    gateway, (first, later) = starts.gateways(size.starts), starts.workers(size.starts)
    now.values["starts"] = [
        Value("gateway ready", gateway.ready_s, "s", "<= 2"),
        Value("gateway: memory then", gateway.rss_mb, "MB"),
        Value("worker ready, model cache empty", first.ready_s, "s"),
        Value("worker ready, model cache warm", later.ready_s, "s"),
        Value("a document that waited is answered, model cache warm", later.answer_s, "s", "<= 10"),
        Value("worker: most memory, model cache empty", first.peak_mb, "MB", "<= 3000"),
        Value("worker: memory then", first.rss_mb, "MB"),
        Value("worker: most memory, model cache warm", later.peak_mb, "MB"),
        Value("worker: memory then, model cache warm", later.rss_mb, "MB"),
    ]


SECTIONS: Mapping[str, Callable[[Figures, Size], None]] = {
    "speed": contests.speed,
    "mixes": contests.other_mixes,
    "medium": contests.deberta,
    "gpu": _gpu,
    "accuracy": _accuracy,
    "path": _path,
    "scale": _scale,
    "starts": _starts,
}
