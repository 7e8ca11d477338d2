"""Comparison of speeds: the library, its peers, Gleaner's engine and its service, in turn.

Further figures are taken from the same runs: CPU by part, latency under load, memory, the promised ratios.
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
    find_best_batch_size,
    predict_in_batches,
    predict_one_by_one,
    sorted_batches,
)
from benchmarks.figures import Figures, Speed, Value
from benchmarks.measurements import medium, scale
from benchmarks.service import ManyClients, OneJob, Service, mean_forward_s, percentile
from benchmarks.texts import Mix, make_mixes, make_usual_mix
from worker.app import load_engine
from worker.settings import WorkerSettings

SHIPPED = Path(__file__).parents[2] / "models" / "gleaner-small"
USUAL = "lognormal"
LABEL_SETS = "ten label sets"
SORTED = "inference, sorted, best batch"
MEDIUM = "medium (random weights)"
PRICE = 0.10
"""USD per hour of a machine with two compute-optimised cores, as of 24 November 2026; replace it by yours."""
WARM_UP = 64
"""Texts that all contestants read first: enough for each process of a peer to load its model."""
PAIRS = 9
"""Rounds of two mixes, in turn, whose ratio is promised."""
LOAD = 0.7
"""Share of the capacity at which latency is measured."""


@dataclass(frozen=True, slots=True)
class Size:
    """Amounts of work: enough for figures to commit, or for a rough check (`--quick`).

    Attributes:
        max_s: seconds of a contestant's rounds on a mix, after which it starts no further round.
    """

    documents: int = 192
    rounds: int = 5
    max_s: float = 20.0
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


def measure_speed(now: Figures, size: Size) -> None:
    """Measure all contestants with gleaner-small on the usual mix, then latency under load."""
    mix = make_usual_mix(size.documents)
    with ExitStack() as cleanup:
        model = medium.load_medium(SHIPPED)
        library = _library_ways(model, find_best_batch_size(model, mix))
        engine = _load_engine(WorkerSettings())
        service = cleanup.enter_context(_start_service_like(engine))
        ours = (engine, OneJob(service), ManyClients(service))
        peer_stacks: list[Any] = [peers.CeleryTask(SHIPPED)]
        if peers.GlinerServe.is_installed():
            peer_stacks.append(peers.GlinerServe(SHIPPED))
        for peer in peer_stacks:
            cleanup.callback(peer.close)
        contest = Contest("gleaner-small", USUAL, mix, (*library, *peer_stacks, *ours))
        speeds = contest.run(size.rounds, size.max_s)
        if len(peer_stacks) == 1:
            recorded = f"{peers.GlinerServe.name} (recorded, not measured here)"
            speeds.append(Speed("gleaner-small", USUAL, recorded, 0, [peers.SERVE_RECORDED], {}))
        now.replace_speeds(speeds)
        now.values["service"] = _measure_service(now, size, mix, engine, service)
    now.values["ratios"] = _promised_ratios(now)


def measure_other_mixes(now: Figures, size: Size) -> None:
    """Measure the library, the engine, and the service with one job, with gleaner-small on the other mixes."""
    if not size.other_rounds:
        return
    texts = make_mixes(size.documents)
    model = medium.load_medium(SHIPPED)
    library = _library_ways(model, find_best_batch_size(model, texts[USUAL]))
    engine = _load_engine(WorkerSettings())
    with _start_service_like(engine) as service:
        contestants: tuple[Contestant, ...] = (*library, engine, OneJob(service))
        for name, mix in texts.items():
            if name != USUAL:
                contest = Contest("gleaner-small", name, mix, contestants)
                now.replace_speeds(contest.run(size.other_rounds, size.max_s))
    now.values["label sets"] = [Value(f"{LABEL_SETS} / one", _label_sets_ratio(engine, texts), "", ">= 0.9")]
    now.values["ratios"] = _promised_ratios(now)


def _label_sets_ratio(engine: EngineAlone, texts: Mapping[str, Mix]) -> float:
    """Return the engine's rate with ten label sets relative to one: the median of pairs, run in turn."""
    pairs = [(engine.run(texts[USUAL]).seconds, engine.run(texts[LABEL_SETS]).seconds) for _ in range(PAIRS)]
    return statistics.median(single / ten for single, ten in pairs)


def _library_ways(model: Any, best: int) -> tuple[Library, ...]:
    """Return three contestants that call the library."""
    print(f"{SORTED}: batches of {best}")
    return (
        Library("predict_entities", predict_one_by_one, model),
        Library(figures.BASE, predict_in_batches, model),
        Library(SORTED, sorted_batches(best), model),
    )


def _load_engine(settings: WorkerSettings) -> EngineAlone:
    engine = load_engine(settings)
    return EngineAlone(engine, settings.microbatch_tokens or engine.warm_up())


def _start_service_like(engine: EngineAlone) -> AbstractContextManager[Service]:
    """Return a service whose micro-batches are as large as the engine's, so that only the path to them differs."""
    return Service.start(GLEANER_MICROBATCH_TOKENS=str(engine.budget))


@dataclass(frozen=True, slots=True)
class Contest:
    """Contestants that run the same mix with the same model; spans are compared with those of the first."""

    model: str
    name: str
    mix: Mix
    contestants: Sequence[Contestant]

    def run(self, rounds: int, max_s: float) -> list[Speed]:
        """Run all contestants once to warm up, then in turn for `rounds` rounds, each for at most `max_s`."""
        count = len(self.mix.texts)
        for contestant in self.contestants:
            contestant.run(self.mix.take(WARM_UP))
        runs: dict[str, list[Run]] = {contestant.name: [] for contestant in self.contestants}
        for _ in range(rounds):
            for contestant in self.contestants:
                if sum(run.seconds for run in runs[contestant.name]) < max_s:
                    runs[contestant.name].append(contestant.run(self.mix))
        alone = runs[self.contestants[0].name][0].spans
        speeds = []
        for name, done in runs.items():
            differ = sum(a != b for a, b in zip(done[-1].spans, alone, strict=True))
            rates, cpu_ms = [count / run.seconds for run in done], _cpu_ms(done, count)
            speeds.append(Speed(self.model, self.name, name, count, rates, cpu_ms, done[-1].fill, differ))
        return speeds


def _cpu_ms(runs: Sequence[Run], documents: int) -> dict[str, float]:
    parts = runs[0].cpu_s
    return {part: 1000 * statistics.median(run.cpu_s[part] for run in runs) / documents for part in parts}


def _measure_service(now: Figures, size: Size, mix: Mix, engine: EngineAlone, service: Service) -> list[Value]:
    """Return CPU by part, latency at a share of the capacity, and memory."""
    before = service.read_metrics()
    service.run_one_job(make_usual_mix(2 * len(mix.texts), seed=1))
    full_s = mean_forward_s(before, service.read_metrics())
    capacity = now.find_speed("gleaner-small", USUAL, ManyClients.name)
    job = now.find_speed("gleaner-small", USUAL, OneJob.name)
    alone = now.find_speed("gleaner-small", USUAL, EngineAlone.name)
    assert capacity
    assert job
    assert alone
    per_call_ms = capacity.cpu_ms["server"]
    rate = LOAD * capacity.median
    median, p99, mean_s = _measure_latency(service, rate, size)
    model = 1000 * engine.model_cpu_s(mix) / len(mix.texts)
    memory = service.rss_mb()
    total = sum(ms for part, ms in job.cpu_ms.items() if part != "client")
    return [
        Value("CPU per document: model", model, "ms"),
        Value("CPU per document: Python in the engine", alone.cpu_ms["all"] - model, "ms"),
        Value("CPU per document: worker outside the engine", job.cpu_ms["worker"] - alone.cpu_ms["all"], "ms"),
        Value("CPU per document: gateway", job.cpu_ms["gateway"], "ms"),
        Value("CPU per document: server", job.cpu_ms["server"], "ms"),
        Value("CPU per document: all of Gleaner", total, "ms", "<= 250"),
        Value("documents per second and node", job.median, "", ">= 100"),
        Value(f"a million documents at {PRICE:.2f} USD an hour", scale.cost_per_million(job.median, PRICE), "USD"),
        Value("one-document jobs per second of one ledger", 1000 * scale.LEDGER_SHARE / per_call_ms),
        Value("one micro-batch in the model: full", 1000 * full_s, "ms"),
        Value("one micro-batch in the model: mean at that load", 1000 * mean_s, "ms"),
        Value(f"median latency at {LOAD:.0%} of the capacity", 1000 * median, "ms"),
        Value(f"p99 latency at {LOAD:.0%} of the capacity", 1000 * p99, "ms", "<= 500"),
        Value("p99 in full micro-batches", p99 / full_s),
        Value("p99 in mean micro-batches", p99 / mean_s, "", "<= 4"),
        *(Value(f"memory: {part}", mb, "MB", "<= 3000" * (part == "worker")) for part, mb in memory.items()),
    ]


def _measure_latency(service: Service, rate: float, size: Size) -> tuple[float, float, float]:
    """Return latency of single texts at a rate: median, p99, and mean seconds of a micro-batch in the model.

    The first two are medians of several runs, after one to warm up.
    """
    texts = max(20, int(rate * size.load_s))
    service.run_at_rate(make_usual_mix(texts // 2, seed=2), rate)
    before = service.read_metrics()
    runs = [
        service.run_at_rate(make_usual_mix(texts, seed), rate, seed).latencies_s
        for seed in range(3, 3 + min(3, size.rounds))
    ]
    microbatch_s = mean_forward_s(before, service.read_metrics())
    middles, tails = map(statistics.median, runs), (percentile(run, 99) for run in runs)
    return statistics.median(middles), statistics.median(tails), microbatch_s


def _promised_ratios(now: Figures) -> list[Value]:
    """Return the promised ratios of speeds within one run."""

    def rate(contestant: str) -> float:
        speeds = (speed for speed in now.speeds if (speed.model, speed.mix) == ("gleaner-small", USUAL))
        return next((speed.median for speed in speeds if speed.contestant.startswith(contestant)), 0.0)

    engine, crowd = rate(EngineAlone.name), rate(ManyClients.name)
    best = now.find_speed("gleaner-small", USUAL, EngineAlone.name)
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


def measure_medium(now: Figures, size: Size) -> None:
    """Measure the DeBERTa-sized model, on the runtime that `auto` selects for it."""
    folder = medium.medium_folder()
    mix = make_usual_mix(size.medium_documents)
    model = medium.load_medium(folder)
    engine = _load_engine(WorkerSettings.model_validate({"model_source": str(folder)}))
    print(f"{MEDIUM}: {engine.runs_on}")
    contestants: tuple[Contestant, ...] = (*_library_ways(model, 8), engine)
    now.replace_speeds(Contest(MEDIUM, USUAL, mix, contestants).run(min(3, size.rounds), size.max_s))
    ours = now.find_speed(MEDIUM, USUAL, EngineAlone.name)
    multiple = now.multiple_of_library(ours) if ours else None
    words = statistics.mean(len(text.split()) for text in mix.texts) * ours.median if ours else 0.0
    target = ">= 6" if engine.runs_on.endswith("bf16") else ">= 4"
    now.values["medium"] = [
        Value("engine / inference", multiple or 0.0, "", target),
        Value("words per second", words, "", ">= 513"),
    ]
