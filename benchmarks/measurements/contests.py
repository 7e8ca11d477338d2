"""Who reads more texts a second: the library, its peers, Gleaner's engine and its service, turn about.

What is measured while they run goes beside it: CPU by part, latency under load, memory, the promised ratios.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import figures, peers
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
from benchmarks.measurements import medium, scale
from benchmarks.service import ManyClients, OneJob, Service, forward_s, percentile
from benchmarks.texts import Mix, mixes, usual
from worker.app import load_engine
from worker.settings import WorkerSettings

SHIPPED = Path(__file__).parents[2] / "models" / "gleaner-small"
USUAL = "lognormal"
LABEL_SETS = "ten label sets"
SORTED = "inference, sorted, best batch"
MEDIUM = "medium (random weights)"
PRICE = 0.10
"""USD an hour of a machine of two compute-optimised cores: an input, set on 24 November 2026. Put yours."""
WARM_UP = 64
"""Texts that everybody reads first: enough for each of a peer's processes to load its model."""
PAIRS = 9
"""Rounds of two mixes, turn about, whose ratio is promised."""
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


def speed(now: Figures, size: Size) -> None:
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


def other_mixes(now: Figures, size: Size) -> None:
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
    now.values["label sets"] = [Value(f"{LABEL_SETS} / one", _of_label_sets(engine, texts), "", ">= 0.9")]
    now.values["ratios"] = _ratios(now)


def _of_label_sets(engine: EngineAlone, texts: Mapping[str, Mix]) -> float:
    """The engine's rate with ten label sets, of that with one: the median of pairs, run turn about."""
    pairs = [(engine.run(texts[USUAL]).seconds, engine.run(texts[LABEL_SETS]).seconds) for _ in range(PAIRS)]
    return statistics.median(one / ten for one, ten in pairs)


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

    def rate(contestant: str) -> float:
        found = (one for one in now.speeds if (one.model, one.mix) == ("gleaner-small", USUAL))
        return next((one.median for one in found if one.contestant.startswith(contestant)), 0.0)

    engine, crowd = rate(EngineAlone.name), rate(ManyClients.name)
    best = now.find("gleaner-small", USUAL, EngineAlone.name)
    pairs = (
        ("engine / inference", engine, rate(figures.BASE), ">= 3.5"),
        ("engine / inference sorted", engine, rate(SORTED), ">= 1.8"),
        ("one job / engine", rate(OneJob.name), engine, ">= 0.95"),
        ("32 clients / gliner.serve", crowd, rate(peers.GlinerServe.name), ">= 3.5"),
        ("32 clients / celery task", crowd, rate(peers.CeleryTask.name), ">= 8"),
    )
    rows = [Value(name, ours / theirs, "", target) for name, ours, theirs, target in pairs if ours and theirs]
    if best and best.fill:
        rows.append(Value("fill under backlog", best.fill, "", ">= 0.92"))
    return rows


def deberta(now: Figures, size: Size) -> None:
    """The DeBERTa-sized model, on what `auto` chooses for it here."""
    folder = medium.medium()
    mix = usual(size.medium_documents)
    model = medium.load(folder)
    engine = _engine(WorkerSettings.model_validate({"model_source": str(folder)}))
    print(f"{MEDIUM}: {engine.runs_on}")
    contestants: tuple[Contestant, ...] = (*_library(model, 8), engine)
    now.put(_contest(MEDIUM, USUAL, mix, contestants, min(3, size.rounds), size.most_s))
    ours = now.find(MEDIUM, USUAL, EngineAlone.name)
    multiple = now.multiple(ours) if ours else None
    words = statistics.mean(len(text.split()) for text in mix.texts) * ours.median if ours else 0.0
    target = ">= 6" if engine.runs_on.endswith("bf16") else ">= 4"
    now.values["medium"] = [
        Value("engine / inference", multiple or 0.0, "", target),
        Value("words a second", words, "", ">= 513"),
    ]
