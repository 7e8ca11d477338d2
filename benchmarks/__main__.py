"""Every measurement of this house in one run: the same texts, the same cores, turn about, medians of rounds.

`python -m benchmarks [--quick] [--only SECTION …] [--commit]`. Prints tables beside the committed figures and
says what became slower; writes .cache/figures.json (not with --quick), with --commit benchmarks/figures.json, the
tables of docs/performance.md and its plot.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import accept, accuracy, figures, gpu, medium, path, peers, scale, starts
from benchmarks.contestants import (
    Contestant,
    EngineAlone,
    Library,
    Run,
    best_batch_size,
    in_batches,
    in_sorted_batches,
    one_by_one,
)
from benchmarks.figures import Figures, Speed, Value
from benchmarks.service import ManyClients, OneJob, Service, forward_s, percentile
from benchmarks.texts import Mix, mixes, usual
from worker.app import load_engine
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "models" / "gleaner-small"
OUTPUT = ROOT / ".cache" / "figures.json"
USUAL = "lognormal"
SORTED = "inference, sorted, best batch"
MEDIUM = "medium (random weights)"
PRICE = 0.10
"""USD an hour of a machine of two compute-optimised cores: an input, set on 24 November 2026. Put yours."""
WARM_UP = 64
"""Texts that everybody reads first: enough for each of a peer's processes to load its model."""
FASTER = 20
"""Times gleaner-small's speed on two cores: fast enough that the cores around the model are full."""
GPU_TIMES = 64
"""Times the texts of other parts that a GPU is given: it reads as many in the same time."""
LOAD = 0.7
"""Part of the capacity at which latency is measured."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: enough for figures worth keeping, or a look (`--quick`).

    Attributes:
        most_s: of one contestant's rounds on one mix; after it the slow, or a busy machine, begin no other round.
    """

    documents: int = 192
    rounds: int = 5
    most_s: float = 20.0
    other_rounds: int = 3
    medium_documents: int = 24
    calls: int = 200
    load_s: float = 20.0
    accept_s: float = 5.0
    examples: int | None = None
    scale_documents: int = 5000
    workers: tuple[int, ...] = (1, 2, 4)
    grow_documents: int = 600
    tenfold_documents: int = 2000
    starts: int = 3


QUICK = Size(32, 2, 2.0, 0, 6, 50, 4.0, 1.0, 60, 600, (1, 2), 150, 100, 1)


def main() -> None:
    """Measure, print, write."""
    sections: dict[str, Callable[[Figures, Size], None]] = {
        "speed": _speed,
        "mixes": _mixes,
        "medium": _medium,
        "gpu": _gpu,
        "accuracy": _accuracy,
        "path": _path,
        "scale": _scale,
        "starts": _starts,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look, in under two minutes")
    parser.add_argument("--only", nargs="+", choices=sections, default=list(sections))
    parser.add_argument("--commit", action="store_true", help="write the figures and the plot that are committed")
    parser.add_argument("--install-serve", action="store_true", help="make gliner.serve's environment first")
    arguments = parser.parse_args()
    if arguments.quick and arguments.commit:
        parser.error("a quick look is nothing to commit")
    if arguments.install_serve:
        peers.GlinerServe.install()
    committed = Figures.read(figures.COMMITTED)
    now = Figures.new()
    if len(arguments.only) < len(sections):  # the other sections are those of the run before
        before = Figures.read(OUTPUT)
        now.speeds, now.values = before.speeds, before.values
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # children end with their blocks
    warnings.simplefilter("ignore")  # gliner's and torch's own
    for name in arguments.only:
        began = time.monotonic()
        sections[name](now, QUICK if arguments.quick else Size())
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        if not arguments.quick:
            now.write(OUTPUT)
    print(f"\n{now.machine}, {now.taken}")
    print("\n".join(figures.tables(now, committed)))
    for line in figures.regressions(now, committed):
        print(f"SLOWER than committed: {line}")
    if arguments.commit:
        figures.publish(now)


def _speed(now: Figures, size: Size) -> None:
    """gleaner-small on the usual mix: everybody; then latency under load."""
    mix = usual(size.documents)
    with ExitStack() as ending:
        model = medium.load(SHIPPED)
        library = _library(model, best_batch_size(model, mix))
        engine = _engine(WorkerSettings())
        service = ending.enter_context(_service_like(engine))
        ours = (engine, OneJob(service), ManyClients(service))
        slow: list[Any] = [peers.CeleryTask(SHIPPED)]
        if peers.GlinerServe.here():
            slow.append(peers.GlinerServe(SHIPPED))
        for one in slow:
            ending.callback(one.close)
        found = _contest("gleaner-small", USUAL, mix, (*library, *slow, *ours), size.rounds, size.most_s)
        if len(slow) == 1:
            recorded = f"{peers.GlinerServe.name} (recorded, not measured here)"
            found.append(Speed("gleaner-small", USUAL, recorded, 0, [peers.SERVE_RECORDED], {}))
        now.put(found)
        now.values["service"] = _service(now, size, mix, engine, service)
    now.values["ratios"] = _ratios(now)


def _mixes(now: Figures, size: Size) -> None:
    """gleaner-small on the other mixes: the library in batches, the engine, and the service with one job."""
    if not size.other_rounds:
        return
    texts = mixes(size.documents)
    model = medium.load(SHIPPED)
    library = _library(model, best_batch_size(model, texts[USUAL]))
    engine = _engine(WorkerSettings())
    with _service_like(engine) as service:
        contestants: tuple[Contestant, ...] = (*library, engine, OneJob(service))
        for name, mix in texts.items():
            if name != USUAL:
                now.put(_contest("gleaner-small", name, mix, contestants, size.other_rounds, size.most_s))
    now.values["ratios"] = _ratios(now)


def _library(model: Any, best: int) -> tuple[Library, ...]:
    """The library's three ways."""
    print(f"{SORTED}: batches of {best}")
    return (
        Library("predict_entities", one_by_one, model),
        Library(figures.BASE, in_batches, model),
        Library(SORTED, in_sorted_batches(best), model),
    )


def _engine(settings: WorkerSettings) -> EngineAlone:
    engine = load_engine(settings)
    return EngineAlone(engine, settings.microbatch_tokens or engine.warm_up())


def _service_like(engine: EngineAlone) -> AbstractContextManager[Service]:
    """A service whose worker forms micro-batches as large as the engine does: what differs is the way there."""
    return Service.started(GLEANER_MICROBATCH_TOKENS=str(engine.budget))


def _contest(
    model: str,
    name: str,
    mix: Mix,
    contestants: Sequence[Contestant],
    rounds: int,
    most_s: float,
) -> list[Speed]:
    """Everybody once to warm up, then everybody in turn, so often, or until somebody's rounds took `most_s`.

    What the first one finds is what the others are held against.
    """
    count = len(mix.texts)
    for one in contestants:
        one.run(mix.first(WARM_UP))
    runs: dict[str, list[Run]] = {one.name: [] for one in contestants}
    for _ in range(rounds):
        for one in contestants:
            if sum(run.seconds for run in runs[one.name]) < most_s:
                runs[one.name].append(one.run(mix))
    alone = runs[contestants[0].name][0].spans
    found = []
    for contestant, done in runs.items():
        differ = sum(a != b for a, b in zip(done[-1].spans, alone, strict=True))
        rates = [count / run.seconds for run in done]
        found.append(Speed(model, name, contestant, count, rates, _cpu_ms(done, count), done[-1].fill, differ))
    return found


def _cpu_ms(runs: Sequence[Run], documents: int) -> dict[str, float]:
    parts = runs[0].cpu_s
    return {part: 1000 * statistics.median(run.cpu_s[part] for run in runs) / documents for part in parts}


def _service(now: Figures, size: Size, mix: Mix, engine: EngineAlone, service: Service) -> list[Value]:
    """CPU by part, latency at a part of the capacity, and memory."""
    before = service.metrics()
    service.one_job(usual(2 * len(mix.texts), seed=1))
    full_s = forward_s(before, service.metrics())
    capacity = now.find("gleaner-small", USUAL, ManyClients.name)
    job = now.find("gleaner-small", USUAL, OneJob.name)
    alone = now.find("gleaner-small", USUAL, EngineAlone.name)
    assert capacity
    assert job
    assert alone
    per_call_ms = capacity.cpu_ms["server"]
    rate = LOAD * capacity.median
    median, p99, mean_s = _latency(service, rate, size)
    model = 1000 * engine.model_cpu_s(mix) / len(mix.texts)
    memory = service.rss_mb()
    total = sum(ms for part, ms in job.cpu_ms.items() if part != "client")
    return [
        Value("CPU a document: model", model, "ms"),
        Value("CPU a document: Python in the engine", alone.cpu_ms["all"] - model, "ms"),
        Value("CPU a document: worker beside the engine", job.cpu_ms["worker"] - alone.cpu_ms["all"], "ms"),
        Value("CPU a document: gateway", job.cpu_ms["gateway"], "ms"),
        Value("CPU a document: server", job.cpu_ms["server"], "ms"),
        Value("CPU a document: all of Gleaner", total, "ms", "<= 250"),
        Value("documents a second a node", job.median, "", ">= 100"),
        Value(f"a million documents at {PRICE:.2f} USD an hour", scale.cost_per_million(job.median, PRICE), "USD"),
        Value("one-document jobs a second of one ledger", 1000 * scale.LEDGER_SHARE / per_call_ms),
        Value("one micro-batch in the model: full", 1000 * full_s, "ms"),
        Value("one micro-batch in the model: mean at that load", 1000 * mean_s, "ms"),
        Value(f"median at {LOAD:.0%} of the capacity", 1000 * median, "ms"),
        Value(f"p99 at {LOAD:.0%} of the capacity", 1000 * p99, "ms", "<= 500"),
        Value("p99 in full micro-batches", p99 / full_s),
        Value("p99 in mean micro-batches", p99 / mean_s, "", "<= 4"),
        *(Value(f"memory: {part}", mb, "MB", "<= 3000" * (part == "worker")) for part, mb in memory.items()),
    ]


def _latency(service: Service, rate: float, size: Size) -> tuple[float, float, float]:
    """Of single texts at that rate: median, p99, and mean time of a micro-batch in the model.

    The first two are each the median of several runs; one goes before them to warm up.
    """
    texts = max(20, int(rate * size.load_s))
    service.at_rate(usual(texts // 2, seed=2), rate)
    before = service.metrics()
    runs = [
        service.at_rate(usual(texts, seed), rate, seed).latencies_s for seed in range(3, 3 + min(3, size.rounds))
    ]
    microbatch_s = forward_s(before, service.metrics())
    middles, tails = map(statistics.median, runs), (percentile(run, 99) for run in runs)
    return statistics.median(middles), statistics.median(tails), microbatch_s


def _ratios(now: Figures) -> list[Value]:
    """What is promised, as ratios within one run, of what was measured."""

    def rate(contestant: str, mix: str = USUAL) -> float:
        found = (one for one in now.speeds if (one.model, one.mix) == ("gleaner-small", mix))
        return next((one.median for one in found if one.contestant.startswith(contestant)), 0.0)

    engine, crowd = rate(EngineAlone.name), rate(ManyClients.name)
    best = now.find("gleaner-small", USUAL, EngineAlone.name)
    pairs = (
        ("engine / inference", engine, rate(figures.BASE), ">= 3.5"),
        ("engine / inference sorted", engine, rate(SORTED), ">= 1.8"),
        ("one job / engine", rate(OneJob.name), engine, ">= 0.95"),
        ("32 clients / gliner.serve", crowd, rate(peers.GlinerServe.name), ">= 3.5"),
        ("32 clients / celery task", crowd, rate(peers.CeleryTask.name), ">= 8"),
        ("ten label sets / one", rate(EngineAlone.name, "ten label sets"), engine, ">= 0.9"),
    )
    rows = [Value(name, ours / theirs, "", target) for name, ours, theirs, target in pairs if ours and theirs]
    if best and best.fill:
        rows.append(Value("fill under backlog", best.fill, "", ">= 0.92"))
    return rows


def _medium(now: Figures, size: Size) -> None:
    """The DeBERTa-sized model; bf16 is forced, because agreement of random weights means nothing."""
    folder = medium.medium()
    mix = usual(size.medium_documents)
    model = medium.load(folder)
    settings = WorkerSettings.model_validate({"model_source": str(folder), "runtime": "torch", "precision": "bf16"})
    contestants: tuple[Contestant, ...] = (*_library(model, 8), _engine(settings))
    now.put(_contest(MEDIUM, USUAL, mix, contestants, min(3, size.rounds), size.most_s))
    ours = now.find(MEDIUM, USUAL, EngineAlone.name)
    multiple = now.multiple(ours) if ours else None
    now.values["medium"] = [Value("engine / inference", multiple or 0.0, "", ">= 3")]


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


if __name__ == "__main__":
    main()
